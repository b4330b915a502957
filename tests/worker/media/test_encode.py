"""The file that a client downloads: it plays anywhere, starts at once, keeps its colours and its tags."""

import errno
import struct
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from worker.media.encode import Mp4Writer, save_mp4

RED, BLUE = (220, 30, 30), (20, 40, 200)


def red_square_on_blue(num_frames: int = 9, *, width: int = 96, height: int = 64) -> NDArray[np.uint8]:
    frames = np.empty((num_frames, height, width, 3), np.uint8)
    frames[:] = BLUE
    frames[:, 20:44, 30:60] = RED
    return frames


def decoded(path: Path) -> list[NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def top_level_boxes(path: Path) -> list[str]:
    content, names, offset = path.read_bytes(), [], 0
    while offset < len(content):
        size, name = struct.unpack(">I4s", content[offset : offset + 8])
        names.append(name.decode())
        offset += size
    return names


def test_file_is_h264_yuv420p_with_every_frame_at_its_rate(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    save_mp4(red_square_on_blue(), 8, path)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.pix_fmt == "yuv420p"
        assert (stream.width, stream.height) == (96, 64)
        assert stream.average_rate == 8
        assert sum(1 for _ in container.decode(stream)) == 9


def test_path_may_be_a_string(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_mp4(red_square_on_blue(), 8, "star.mp4")
    assert len(decoded(tmp_path / "star.mp4")) == 9


def test_index_comes_before_the_pictures(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    save_mp4(red_square_on_blue(), 8, path)
    boxes = top_level_boxes(path)
    assert boxes.index("moov") < boxes.index("mdat")


def test_colours_survive(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    save_mp4(red_square_on_blue(), 8, path)
    for frame in decoded(path):
        assert np.abs(frame[4, 4].astype(int) - BLUE).max() <= 6
        assert np.abs(frame[32, 45].astype(int) - RED).max() <= 6


def test_tags_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    tags = {"title": "一个红色的球", "comment": "AI-generated", "seed": "42", "asset_id": "asset_1"}
    save_mp4(red_square_on_blue(), 8, path, tags=tags)
    with av.open(str(path)) as container:
        assert tags.items() <= dict(container.metadata).items()


def test_chunks_give_the_same_pictures_as_one_array(tmp_path: Path) -> None:
    frames = red_square_on_blue()
    save_mp4(frames, 8, tmp_path / "whole.mp4")
    save_mp4((frames[i : i + 4] for i in range(0, 9, 4)), 8, tmp_path / "chunks.mp4")
    whole, chunks = decoded(tmp_path / "whole.mp4"), decoded(tmp_path / "chunks.mp4")
    assert np.array_equal(whole, chunks)


def test_single_frame_is_a_video(tmp_path: Path) -> None:
    path = tmp_path / "still.mp4"
    save_mp4(red_square_on_blue(1), 16, path)
    assert len(decoded(path)) == 1


def test_failure_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    def encode_half_of_it() -> None:
        with Mp4Writer(tmp_path / "clip.mp4", 8) as writer:
            writer.write(red_square_on_blue(4))
            raise RuntimeError("the decoder failed")

    with pytest.raises(RuntimeError, match="decoder failed"):
        encode_half_of_it()
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    # The partial file is a link to a device that is always full.
    (tmp_path / ".clip.mp4.part").symlink_to("/dev/full")
    noise = np.random.default_rng(0).integers(0, 255, (40, 128, 128, 3), dtype=np.uint8)
    with pytest.raises(OSError, match="No space left") as raised:
        save_mp4(noise, 8, tmp_path / "clip.mp4")
    assert raised.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("frames", [np.zeros((2, 63, 64, 3), np.uint8), np.zeros((0, 64, 64, 3), np.uint8)])
def test_odd_sizes_and_no_frames_are_refused(tmp_path: Path, frames: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match=r"even sizes|at least one frame"):
        save_mp4(frames, 8, tmp_path / "clip.mp4")
    assert list(tmp_path.iterdir()) == []
