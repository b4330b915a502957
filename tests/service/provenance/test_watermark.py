"""A number in the pictures is read after coding, after coding again and at half the size, and never where none is."""

import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from service.provenance.luma import luma_of
from service.provenance.watermark import MIN_SIDE, Marker
from service.provenance.watermark_reader import MAX_PIXELS, read_watermark
from worker.media.encode import save_mp4

KEY, OTHER_KEY = b"a key of 16 bytes", b"one of somebody else"
NUMBER = 0xDEADBEEF
Frames = NDArray[np.uint8]


def drifting_clouds(num_frames: int = 9, *, width: int = 256, height: int = 256, seed: int = 3) -> Frames:
    """Soft shapes that move, with a little noise: f h w 3."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft2(rng.normal(size=(height, width)))
    size = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)) + 0.004
    clouds = np.fft.irfft2(spectrum / size**1.6, s=(height, width))
    grey = 120 + 35 * clouds / clouds.std()
    moving = np.stack([np.roll(grey, frame, axis=1) for frame in range(num_frames)])
    noisy = moving[..., None] + rng.normal(0, 1.5, (num_frames, height, width, 3))
    return noisy.clip(0, 255).astype(np.uint8)


def saved(path: Path, frames: Frames, *, key: bytes = KEY, number: int = NUMBER) -> Path:
    save_mp4(frames, 8, path, mark=Marker(key, number, num_frames=len(frames)).mark)
    return path


def encoded_again(path: Path, *, crf: int, scale: Fraction = Fraction(1)) -> io.BytesIO:
    anew = io.BytesIO()
    with av.open(str(path)) as source, av.open(anew, "w", format="mp4") as target:
        before = source.streams.video[0]
        stream = target.add_stream("libx264", rate=8, options={"crf": str(crf)})
        stream.width, stream.height = int(before.width * scale), int(before.height * scale)
        stream.pix_fmt = "yuv420p"
        for frame in source.decode(before):
            smaller = frame.reformat(width=stream.width, height=stream.height, interpolation="AREA")
            target.mux(stream.encode(smaller))
        target.mux(stream.encode(None))
    return anew


@pytest.mark.parametrize("size", [(256, 256), (448, 256), (256, 448)], ids=["square", "landscape", "portrait"])
def test_number_survives_coding_at_any_orientation(tmp_path: Path, size: tuple[int, int]) -> None:
    path = saved(tmp_path / "a.mp4", drifting_clouds(width=size[0], height=size[1]))

    with path.open("rb") as file:
        found = read_watermark(file, [OTHER_KEY, KEY])

    assert found is not None
    assert found.id == NUMBER


@pytest.mark.parametrize(
    "again",
    [lambda path: encoded_again(path, crf=28), lambda path: encoded_again(path, crf=23, scale=Fraction(1, 2))],
    ids=["crf 28", "half the size"],
)
def test_number_survives_what_others_do_to_a_file(tmp_path: Path, again: Callable[[Path], io.BytesIO]) -> None:
    found = read_watermark(again(saved(tmp_path / "a.mp4", drifting_clouds(17))), [KEY])

    assert found is not None
    assert found.id == NUMBER


def test_nothing_is_found_with_another_key_or_where_nothing_is(tmp_path: Path) -> None:
    marked = saved(tmp_path / "a.mp4", drifting_clouds())
    save_mp4(drifting_clouds(), 8, tmp_path / "b.mp4")

    with marked.open("rb") as file:
        assert read_watermark(file, [OTHER_KEY]) is None
    with (tmp_path / "b.mp4").open("rb") as file:
        assert read_watermark(file, [KEY]) is None


@pytest.mark.parametrize("level", [30, 128, 230])
def test_mark_stays_above_42_decibels_even_in_plain_pictures(level: int) -> None:
    frames = drifting_clouds()
    frames[:, :, :100] = level
    marker = Marker(KEY, NUMBER, num_frames=len(frames))

    squares = []
    for frame in frames:
        luma = np.clip(frame[..., 1], 16, 235)
        before = luma.astype(float)
        marker.mark(luma)
        squares.append(((luma - before) ** 2).mean())

    assert 10 * np.log10(255**2 / np.mean(squares)) >= 42


def test_picture_too_small_for_a_mark_stays_as_it_is() -> None:
    luma = drifting_clouds(1, width=MIN_SIDE - 2, height=MIN_SIDE)[0, ..., 1].clip(16, 235)
    before = luma.copy()

    Marker(KEY, NUMBER, num_frames=1).mark(luma)

    assert np.array_equal(luma, before)


def test_picture_of_too_many_pixels_is_not_decoded(tmp_path: Path) -> None:
    height = 2 * (MAX_PIXELS // 4096 // 2) + 2
    save_mp4(np.zeros((1, height, 4096, 3), np.uint8), 8, tmp_path / "large.mp4")

    with (tmp_path / "large.mp4").open("rb") as file:
        assert read_watermark(file, [KEY]) is None


def test_search_ends_when_its_time_is_over(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.mp4", drifting_clouds(17))
    ticks = iter([0.0, 1.0, 99.0])

    with path.open("rb") as file:
        found = read_watermark(file, [KEY], clock=lambda: next(ticks))

    assert found is not None


def test_file_that_breaks_off_tells_what_its_first_frames_hold(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.mp4", drifting_clouds(17))
    content = path.read_bytes()

    found = read_watermark(io.BytesIO(content[: len(content) * 2 // 3]), [KEY])

    assert found is not None


def test_what_a_player_shows_is_marked_in_its_brightness_alone() -> None:
    picture = av.VideoFrame.from_ndarray(drifting_clouds(1)[0], format="rgb24").reformat(format="yuv420p")
    colours = [bytes(plane) for plane in picture.planes[1:]]

    Marker(KEY, NUMBER, num_frames=1).mark(luma_of(picture))

    assert [bytes(plane) for plane in picture.planes[1:]] == colours
