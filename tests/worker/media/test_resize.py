import io

import numpy as np
from PIL import Image

from worker.media.previews import thumbnail
from worker.media.resize import enlarge


def test_enlarged_frames_show_the_same_picture() -> None:
    frames = np.zeros((3, 16, 24, 3), np.uint8)
    frames[:, 4:12, 6:18] = (200, 10, 10)
    enlarged = enlarge(frames, width=96, height=64)
    assert enlarged.shape == (3, 64, 96, 3)
    assert enlarged[1, 32, 48].tolist() == [200, 10, 10]
    assert enlarged[1, 2, 2].tolist() == [0, 0, 0]


def test_frames_of_the_right_size_are_not_copied() -> None:
    frames = np.zeros((1, 64, 64, 3), np.uint8)
    assert enlarge(frames, width=64, height=64) is frames


def test_thumbnail_is_the_middle_frame_as_webp() -> None:
    frames = np.zeros((5, 600, 900, 3), np.uint8)
    frames[2] = (0, 200, 0)
    picture = Image.open(io.BytesIO(thumbnail(frames)))
    assert picture.format == "WEBP"
    assert max(picture.size) == 512
    red, green, blue = picture.convert("RGB").getpixel((100, 100))
    assert green > 150
    assert max(red, blue) < 60
