"""Frames to a playable H.264 file. Knows no job, no storage and no model."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from numpy.typing import NDArray

from service.provenance.luma import luma_of

CRF = 18
"""x264's constant quality: 18 hides no detail of a small clip and stays under 10 MB for 81 frames of 720p."""

PRESET = "veryfast"
Mark = Callable[[NDArray[np.uint8]], None]
"""Changes a frame's brightness in place, h w in BT.709's limited range: the last change before coding."""

MP4_OPTIONS = {
    # faststart: the index comes first, so that a browser plays before all is loaded.
    # use_metadata_tags: without it the muxer drops every tag but a few of iTunes' own.
    "movflags": "+faststart+use_metadata_tags",
}


def save_mp4(
    frames: NDArray[np.uint8] | Iterable[NDArray[np.uint8]],
    fps: int,
    path: Path | str,
    *,
    tags: Mapping[str, str] | None = None,
    mark: Mark | None = None,
) -> None:
    """Writes frames (f h w 3, RGB; one array or chunks of it) as an MP4 file, whole or not at all.

    Raises ValueError for odd sizes, OSError when the file can't be written (ENOSPC: the disk is full).
    """
    chunks = (frames,) if isinstance(frames, np.ndarray) else frames
    with Mp4Writer(path, fps, tags=tags, mark=mark) as writer:
        for chunk in chunks:
            writer.write(chunk)


@dataclass(frozen=True, slots=True)
class _Output:
    container: av.container.OutputContainer
    stream: av.VideoStream


class Mp4Writer:
    """A file in the making: H.264, yuv420p, BT.709, index first. The name appears once the file is whole."""

    def __init__(
        self, path: Path | str, fps: int, *, tags: Mapping[str, str] | None = None, mark: Mark | None = None
    ) -> None:
        self._path = Path(path)
        self._partial = self._path.with_name(f".{self._path.name}.part")
        self._fps = fps
        self._tags = dict(tags or {})
        self._mark = mark
        self._output: _Output | None = None

    def write(self, frames: NDArray[np.uint8]) -> None:
        """Encodes a chunk, f h w 3 in RGB. The first one settles the size: width and height must be even."""
        if not len(frames):
            return
        if self._output is None:
            self._output = self._open(width=frames.shape[2], height=frames.shape[1])
        for frame in frames:
            picture = _bt709(frame)
            if self._mark is not None:
                self._mark(luma_of(picture))
            self._output.container.mux(self._output.stream.encode(picture))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._close(is_whole=error is None)
        finally:
            self._partial.unlink(missing_ok=True)

    def _open(self, *, width: int, height: int) -> _Output:
        if width % 2 or height % 2:
            raise ValueError(f"H.264 needs even sizes, not {width}x{height}.")
        container = av.open(str(self._partial), "w", format="mp4", options=MP4_OPTIONS)
        container.metadata.update(self._tags)
        stream = container.add_stream("libx264", rate=self._fps, options={"crf": str(CRF), "preset": PRESET})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        codec = stream.codec_context
        codec.color_range = ColorRange.MPEG
        codec.colorspace = Colorspace.ITU709
        codec.color_primaries = ColorPrimaries.BT709
        codec.color_trc = ColorTrc.BT709
        return _Output(container, stream)

    def _close(self, *, is_whole: bool) -> None:
        if self._output is None:
            if is_whole:
                raise ValueError("A video needs at least one frame.")
            return
        try:
            if is_whole:
                self._output.container.mux(self._output.stream.encode(None))
        finally:
            # Closing writes the index; on a full disk it raises, and the name must not appear.
            self._output.container.close()
        if is_whole:
            self._partial.replace(self._path)


def _bt709(frame: NDArray[np.uint8]) -> av.VideoFrame:
    rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    return rgb.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
