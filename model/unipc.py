"""UniPC, order 2, for flow matching: a solver whose memory travels with the request.

Zhao et al., "UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of Diffusion Models", arXiv
2302.04867; data prediction, B(h) = exp(h) - 1, lower orders in the first and the last step: what Wan and
diffusers run. In flow matching x_sigma = (1 - sigma) x0 + sigma noise: alpha = 1 - sigma, and
lambda = log(alpha / sigma).
"""

import math
from dataclasses import dataclass

import torch

from model.schedule import Schedule

MAX_ORDER = 2


@dataclass(frozen=True, slots=True)
class SolverState:
    """What one step leaves for the next: two to three tensors shaped like the latents, in float32."""

    sample: torch.Tensor
    """The corrected latents that the last step started from."""

    clean: torch.Tensor
    """The clean latents (x0) that the denoiser predicted in the last step."""

    earlier_clean: torch.Tensor | None
    """The same, one step earlier; None after the first step."""


def solver_step(
    state: SolverState | None, velocity: torch.Tensor, *, latents: torch.Tensor, schedule: Schedule, step: int
) -> tuple[torch.Tensor, SolverState]:
    """Latents of noise level `step + 1` from the velocity predicted at level `step`.

    latents and velocity: b c f h w, float32; state: what the step before returned, None at step 0.
    """
    clean = latents - schedule.sigmas[step] * velocity
    if state is None:
        sample, earlier_clean = latents, None
    else:
        sample, earlier_clean = _correct(state, clean, schedule=schedule, step=step), state.clean
    following = SolverState(sample=sample, clean=clean, earlier_clean=earlier_clean)
    return _predict(following, schedule=schedule, step=step), following


def _predict(state: SolverState, *, schedule: Schedule, step: int) -> torch.Tensor:
    """UniP: from level `step` to `step + 1`."""
    leap = _Leap.between(schedule, step, step + 1)
    moved = leap.sample_weight * state.sample + leap.clean_weight * state.clean
    if _order(schedule, step) == 1 or state.earlier_clean is None:
        return moved
    slope = (state.earlier_clean - state.clean) / leap.ratio_to(schedule, step - 1)
    return moved + leap.clean_weight * 0.5 * slope


def _correct(state: SolverState, clean: torch.Tensor, *, schedule: Schedule, step: int) -> torch.Tensor:
    """UniC: redoes the leap from `step - 1` to `step`, now that the prediction at `step` is known."""
    leap = _Leap.between(schedule, step - 1, step)
    moved = leap.sample_weight * state.sample + leap.clean_weight * state.clean
    change = clean - state.clean
    if _order(schedule, step - 1) == 1 or state.earlier_clean is None:
        return moved + leap.clean_weight * 0.5 * change
    ratio = leap.ratio_to(schedule, step - 2)
    slope_weight, change_weight = leap.corrector_weights(ratio)
    slope = (state.earlier_clean - state.clean) / ratio
    return moved + leap.clean_weight * (slope_weight * slope + change_weight * change)


def _order(schedule: Schedule, step: int) -> int:
    return min(MAX_ORDER, step + 1, schedule.num_steps - step)


@dataclass(frozen=True, slots=True)
class _Leap:
    """The numbers of one move between noise levels, in double precision."""

    start_lambda: float
    width: float
    """h = lambda at the end - lambda at the start; infinite on the way to sigma = 0."""

    sample_weight: float
    clean_weight: float

    @classmethod
    def between(cls, schedule: Schedule, start: int, end: int) -> "_Leap":
        sigma_start, sigma_end = schedule.sigmas[start], schedule.sigmas[end]
        width = _lambda(sigma_end) - _lambda(sigma_start)
        return cls(
            start_lambda=_lambda(sigma_start),
            width=width,
            sample_weight=sigma_end / sigma_start,
            clean_weight=-(1 - sigma_end) * math.expm1(-width),
        )

    def ratio_to(self, schedule: Schedule, level: int) -> float:
        """r: where an earlier level lies, measured in this leap's width; negative."""
        return (_lambda(schedule.sigmas[level]) - self.start_lambda) / self.width

    def corrector_weights(self, ratio: float) -> tuple[float, float]:
        """Solves the paper's 2 x 2 system for the weights of the slope and of the change."""
        h = -self.width
        phi = math.expm1(h)
        first = (phi / h - 1) / phi
        second = ((phi / h - 1) / h - 0.5) * 2 / phi
        slope_weight = (first - second) / (1 - ratio)
        return slope_weight, first - slope_weight


def _lambda(sigma: float) -> float:
    return math.inf if sigma == 0 else math.log(1 - sigma) - math.log(sigma)
