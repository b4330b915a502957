import io

import numpy as np
import pytest
from PIL import Image

from worker.media.previews import spritesheet, thumbnail
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


def test_sprite_sheet_holds_evenly_spaced_frames_row_by_row() -> None:
    frames = np.zeros((33, 64, 96, 3), np.uint8)
    frames[:, :, :] = np.linspace(0, 255, 33).astype(np.uint8)[:, None, None, None]
    sheet = Image.open(io.BytesIO(spritesheet(frames))).convert("L")
    assert sheet.size == (4 * 96, 4 * 64)
    greys = [sheet.getpixel((column * 96 + 48, row * 64 + 32)) for row in range(4) for column in range(4)]
    assert greys == pytest.approx(np.linspace(0, 255, 16), abs=8)


@pytest.mark.parametrize(("num_frames", "size"), [(1, (64, 48)), (3, (192, 48)), (5, (256, 96)), (16, (256, 192))])
def test_sprite_sheet_of_a_short_video_is_smaller(num_frames: int, size: tuple[int, int]) -> None:
    frames = np.zeros((num_frames, 48, 64, 3), np.uint8)
    assert Image.open(io.BytesIO(spritesheet(frames))).size == size


def test_sprites_of_a_large_video_are_made_small() -> None:
    assert Image.open(io.BytesIO(spritesheet(np.zeros((16, 720, 1280, 3), np.uint8)))).size == (640, 360)
