"""Looks for a watermark in a video file of anybody's: decodes a bounded number of frames, and gives up on bombs."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import IO

import av
import numpy as np
from av.error import FFmpegError
from av.video.frame import PictureType
from numpy.typing import NDArray

from service.provenance.luma import luma_of
from service.provenance.watermark import Detector, Found

MAX_PIXELS = 4096 * 2304
"""Of one picture. A file of a few bytes may stand for a picture of gigabytes."""

MAX_FRAMES = 96
MAX_SECONDS = 20.0
PLANAR = ("yuv420p", "yuvj420p", "yuv422p", "yuv444p", "gray")
"""Formats whose first plane is brightness, eight bits each."""


def read_watermark(
    file: IO[bytes], keys: Iterable[bytes], *, clock: Callable[[], float] = time.monotonic
) -> Found | None:
    """The mark in an MP4 file's first frames, made with any of the keys; None where none is found.

    What can't be decoded ends the search: the frames before it may still tell. keys: the newest first.
    """
    deadline = clock() + MAX_SECONDS
    detector = Detector(keys)
    for frame in _frames(file):
        detector.add(_luma(frame), is_whole=frame.pict_type == PictureType.I)
        if clock() > deadline:
            break
    return detector.found()


def _frames(file: IO[bytes]) -> Iterator[av.VideoFrame]:
    file.seek(0)
    try:
        # Left to guess the format, ffmpeg would follow playlists, to other machines too.
        with av.open(file, "r", format="mov") as container:
            stream = container.streams.video[0]
            stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
            stream.codec_context.thread_count = 1
            for place, frame in enumerate(container.decode(stream)):
                yield frame
                if place + 1 == MAX_FRAMES:
                    return
    except (FFmpegError, IndexError):
        return


def _luma(frame: av.VideoFrame) -> NDArray[np.uint8]:
    return luma_of(frame if frame.format.name in PLANAR else frame.reformat(format="gray"))
