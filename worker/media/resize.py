"""From the size a checkpoint draws to the size that is delivered."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def enlarge(frames: NDArray[np.uint8], *, width: int, height: int) -> NDArray[np.uint8]:
    """f h w 3 → f height width 3, bicubic (Lanczos rings at the hard edges of a flat drawing)."""
    if frames.shape[1:3] == (height, width):
        return frames
    enlarged = np.empty((len(frames), height, width, 3), np.uint8)
    for target, frame in zip(enlarged, frames, strict=True):
        target[:] = np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC))
    return enlarged
