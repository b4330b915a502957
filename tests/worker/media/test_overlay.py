"""A label's letters are as high as the rules ask for, legible on any ground, and nothing else is touched."""

import io
from pathlib import Path
from typing import get_args

import av
import numpy as np
import pylopdf_fonts_zh_cn
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFont

from service.jobs.record import LabelPosition, VisibleLabel
from service.jobs.visible_label import MAX_CHARACTERS, TEXTS
from worker.media.encode import save_mp4
from worker.media.overlay import draw_label, text_overlay

SIZES = [(256, 256), (480, 272), (272, 480), (832, 480), (480, 832), (1280, 720), (720, 1280)]


def ground(width: int, height: int, *, level: int = 128, num_frames: int = 1) -> NDArray[np.uint8]:
    return np.full((num_frames, height, width, 3), level, np.uint8)


def logo(width: int = 300, height: int = 100) -> bytes:
    """Red, its left half transparent."""
    picture = Image.new("RGBA", (width, height), (255, 0, 0, 255))
    picture.paste((255, 0, 0, 0), (0, 0, width // 2, height))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("letter", sorted(set("AI生成generated")))
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_each_letter_drawn_alone_has_a_twentieth_of_the_short_side(letter: str, width: int, height: int) -> None:
    frames = ground(width, height)
    text_overlay(letter, width=width, height=height).lay_over(frames)
    white_rows = (frames[0].min(axis=-1) > 200).any(axis=1).sum()
    assert white_rows >= 0.05 * min(width, height)


@pytest.mark.parametrize(
    "text", [*TEXTS.values(), "人工智能生成" * 5, ("AI made by M. " * 3)[:MAX_CHARACTERS], "AI一一~~"]
)
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_every_label_fits_every_size_whole_and_leaves_most_of_the_picture(text: str, width: int, height: int) -> None:
    drawn = text_overlay(text, width=width, height=height).keep.shape
    assert drawn[1] < width
    assert drawn[0] < height / 3


def test_flat_letters_do_not_make_the_others_large() -> None:
    plain, with_flat = (text_overlay(text, width=480, height=272).keep.shape[0] for text in ("AI生", "AI生一"))
    assert with_flat <= plain + 1


def test_chinese_glyphs_are_drawn_and_not_the_box_of_a_missing_one() -> None:
    font = ImageFont.truetype(pylopdf_fonts_zh_cn.sans_path(), 40)
    pictures = {bytes(font.getmask(c)) for c in "生成\U0010fffd"}
    assert len(pictures) == 3


@pytest.mark.parametrize("level", [0, 128, 255])
def test_label_is_legible_on_any_ground(level: int) -> None:
    frames = ground(256, 256, level=level)
    text_overlay("AI生成", width=256, height=256).lay_over(frames)
    assert frames.max() == 255
    assert frames.min() == 0


@pytest.mark.parametrize("position", get_args(LabelPosition))
def test_only_the_corner_asked_for_is_touched(position: LabelPosition) -> None:
    frames = ground(480, 272)
    text_overlay("AI生成", width=480, height=272, position=position).lay_over(frames)
    rows, columns = np.nonzero((frames[0] != 128).any(axis=-1))
    assert (rows.mean() < 136) == position.startswith("top")
    assert (columns.mean() < 240) == position.endswith("left")


def test_half_opacity_leaves_half_of_the_ground() -> None:
    frames = ground(256, 256, level=0)
    draw_label(frames, VisibleLabel(text="AI生成", opacity=0.5), fps=8)
    assert frames.max() in (127, 128)


@pytest.mark.parametrize(("seconds", "num_labelled"), [(None, 24), (2.0, 16), (9.0, 24)])
def test_label_stays_for_the_whole_clip_or_for_its_seconds(seconds: float | None, num_labelled: int) -> None:
    frames = ground(256, 256, num_frames=24)
    draw_label(frames, VisibleLabel(text="AI生成", seconds=seconds), fps=8)
    is_labelled = (frames != 128).any(axis=(1, 2, 3))
    assert is_labelled.tolist() == [place < num_labelled for place in range(24)]


def test_logo_keeps_its_shape_and_what_is_transparent_in_it() -> None:
    frames = ground(480, 272, num_frames=2)
    draw_label(frames, VisibleLabel(logo="0" * 64, logo_position="top-left"), fps=8, logo=logo())
    rows, columns = np.nonzero((frames[1] != 128).any(axis=-1))
    height = rows.max() - rows.min() + 1
    assert abs(height - 0.12 * 272) <= 1
    # The right half of three times its height.
    assert abs(columns.max() - columns.min() + 1 - 1.5 * height) <= 3
    assert tuple(frames[1, rows.min() + height // 2, columns.max() - 5]) == (255, 0, 0)


def test_frame_too_small_for_any_label_still_gets_one() -> None:
    frames = ground(32, 16)
    draw_label(frames, VisibleLabel(text=TEXTS["both"], logo="0" * 64), fps=8, logo=logo())
    assert (frames != 128).any()


def test_label_is_seen_in_the_encoded_file(tmp_path: Path) -> None:
    frames = ground(256, 256, num_frames=5)
    draw_label(frames, VisibleLabel(text="AI生成"), fps=8)
    save_mp4(frames, 16, tmp_path / "a.mp4")
    with av.open(str(tmp_path / "a.mp4")) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(decoded) == 5
    assert all(np.abs(d.astype(int) - f).mean() < 2 and d.max() > 230 for d, f in zip(decoded, frames, strict=True))
