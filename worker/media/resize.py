"""From the size a checkpoint draws to the size that is delivered."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def delivery_size(width: int, height: int, *, short_side: int | None) -> tuple[int, int]:
    """Width and height of the finished file: even, and with at least this short side, in pixels."""
    scale = max(1.0, (short_side or 0) / min(width, height))
    return _even(width * scale), _even(height * scale)


def enlarge(frames: NDArray[np.uint8], *, width: int, height: int) -> NDArray[np.uint8]:
    """f h w 3 → f height width 3, bicubic (Lanczos rings at the hard edges of a flat drawing)."""
    if frames.shape[1:3] == (height, width):
        return frames
    enlarged = np.empty((len(frames), height, width, 3), np.uint8)
    for target, frame in zip(enlarged, frames, strict=True):
        target[:] = np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC))
    return enlarged


def _even(pixels: float) -> int:
    return 2 * round(pixels / 2)
