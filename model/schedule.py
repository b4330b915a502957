"""Which noise levels a request visits, and which expert runs at each. Pure numbers, no torch."""

import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

SigmaGrid = Literal["official", "diffusers"]

EPSILON = 1e-6
"""sigma = 1 would put an infinite log signal-to-noise ratio into the solver."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """The noise levels of one request, highest first."""

    sigmas: tuple[float, ...]
    """num_inference_steps + 1 noise levels in (0, 1), the last one 0; float32 values."""

    timesteps: tuple[int, ...]
    """What the denoiser is told at each step: whole numbers, as both reference schedulers give it."""

    boundary_timestep: float

    @property
    def num_steps(self) -> int:
        return len(self.timesteps)

    @property
    def num_high_noise_steps(self) -> int:
        return sum(self.is_high_noise(step) for step in range(self.num_steps))

    def is_high_noise(self, step: int) -> bool:
        return self.timesteps[step] >= self.boundary_timestep


@functools.lru_cache(maxsize=64)
def make_schedule(
    num_inference_steps: int,
    flow_shift: float,
    *,
    grid: SigmaGrid,
    boundary_timestep: float,
    num_train_timesteps: int = 1000,
) -> Schedule:
    """The shifted noise levels of `num_inference_steps` steps.

    The two grids differ at equal shift: "official" is Wan's own sampler (linear from 0.999 to 0), "diffusers"
    is UniPCMultistepScheduler's (linear from 1 to 0.001). Both are then shifted by
    s -> shift s / (1 + (shift - 1) s).
    """
    linear = np.linspace(*_grid_ends(grid, num_train_timesteps), num_inference_steps + 1)[:-1]
    shifted = flow_shift * linear / (1 + (flow_shift - 1) * linear)
    if abs(shifted[0] - 1) < EPSILON:
        shifted[0] -= EPSILON
    return Schedule(
        sigmas=(*_as_float32(shifted), 0.0),
        timesteps=tuple(int(t) for t in (shifted * num_train_timesteps).astype(np.int64)),
        boundary_timestep=boundary_timestep,
    )


def _grid_ends(grid: SigmaGrid, num_train_timesteps: int) -> tuple[float, float]:
    match grid:
        case "official":
            # Wan's sampler reads its largest sigma back from a float32 tensor.
            return float(np.float32(1 - 1 / num_train_timesteps)), 0.0
        case "diffusers":
            return 1.0, 1 / num_train_timesteps


def _as_float32(values: NDArray[np.float64]) -> list[float]:
    # Both references keep sigmas in float32; the solver must see the same roundings.
    return [float(value) for value in values.astype(np.float32)]
