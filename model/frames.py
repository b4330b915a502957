"""What a generation gives back."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class StageSeconds:
    """Wall-clock seconds of each stage of one generation."""

    text: float
    denoise: float
    decode: float

    @property
    def total(self) -> float:
        return self.text + self.denoise + self.decode


@dataclass(frozen=True, slots=True)
class Frames:
    """A video at the size at which the checkpoint drew it."""

    pixels: NDArray[np.uint8]
    """f h w 3, RGB."""

    fps: int
    seconds: StageSeconds

    @property
    def num_frames(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def height(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def width(self) -> int:
        return int(self.pixels.shape[2])
