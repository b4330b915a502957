"""UniPC, order 2, for flow matching: a solver whose memory travels with the request.

Zhao et al., "UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of Diffusion Models", arXiv
2302.04867; data prediction, B(h) = exp(h) - 1, lower orders in the first and the last step: what Wan and
diffusers run. In flow matching x_sigma = (1 - sigma) x0 + sigma noise: alpha = 1 - sigma, and
lambda = log(alpha / sigma).

Both halves of a step are linear in the tensors they read. Their weights follow from the schedule alone, in double
precision; so requests that stand at different steps of different schedules advance in the same few operations.
"""

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch

from model.schedule import Schedule

MAX_ORDER = 2


@dataclass(frozen=True, slots=True)
class SolverState:
    """What one step leaves for the next: three tensors shaped like the latents, n c f h w in float32."""

    sample: torch.Tensor
    """The corrected latents that the last step started from."""

    clean: torch.Tensor
    """The clean latents (x0) that the denoiser predicted in the last step; any finite value before the first."""

    earlier_clean: torch.Tensor
    """The same, one step earlier."""

    @classmethod
    def before_first_step(cls, latents: torch.Tensor) -> "SolverState":
        nothing = torch.zeros_like(latents)
        return cls(sample=latents, clean=nothing, earlier_clean=nothing)

    def to(self, device: torch.device) -> "SolverState":
        return SolverState(self.sample.to(device), self.clean.to(device), self.earlier_clean.to(device))


class StepWeights(NamedTuple):
    """What a step multiplies with. correct_*: the corrected sample; predict_*: the next latents, from that sample."""

    sigma: float
    correct_sample: float
    correct_earlier_clean: float
    correct_clean: float
    correct_new_clean: float
    predict_sample: float
    predict_clean: float
    predict_new_clean: float


def solver_step(
    state: SolverState, velocity: torch.Tensor, *, latents: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, SolverState]:
    """The latents of each request's next noise level, from the velocity predicted at its present one.

    latents and velocity: n c f h w, float32, n requests at steps of their own; weights: n 8, a row of
    solver_weights() each.
    """
    columns = weights.to(latents.device)[:, :, None, None, None, None].unbind(1)
    sigma, from_sample, from_earlier, from_clean, from_new, to_sample, to_clean, to_new = columns
    clean = torch.addcmul(latents, sigma, velocity, value=-1)
    sample = (state.sample * from_sample).addcmul_(state.earlier_clean, from_earlier)
    sample.addcmul_(state.clean, from_clean).addcmul_(clean, from_new)
    following = (sample * to_sample).addcmul_(state.clean, to_clean).addcmul_(clean, to_new)
    return following, SolverState(sample=sample, clean=clean, earlier_clean=state.clean)


@functools.lru_cache(maxsize=64)
def solver_weights(schedule: Schedule) -> torch.Tensor:
    """The weights of every step: num_steps 8, float32, fields as in StepWeights. Shared: not to be written to."""
    return torch.tensor([step_weights(schedule, step) for step in range(schedule.num_steps)])


def step_weights(schedule: Schedule, step: int) -> StepWeights:
    sigma = schedule.sigmas[step]
    return StepWeights(sigma, *_corrector(schedule, step), *_predictor(schedule, step))


def _predictor(schedule: Schedule, step: int) -> tuple[float, float, float]:
    """UniP, from level `step` to `step + 1`: weights of the sample, the clean latents before and the new ones."""
    leap = _Leap.between(schedule, step, step + 1)
    if _order(schedule, step) == 1:
        return leap.sample_weight, 0.0, leap.clean_weight
    slope = leap.clean_weight * 0.5 / leap.ratio_to(schedule, step - 1)
    return leap.sample_weight, slope, leap.clean_weight - slope


def _corrector(schedule: Schedule, step: int) -> tuple[float, float, float, float]:
    """UniC: redoes the leap from `step - 1` to `step`, now that the prediction at `step` is known.

    Weights of the sample, the clean latents of two steps ago, of the last step, and the new ones.
    """
    if step == 0:
        return 1.0, 0.0, 0.0, 0.0
    leap = _Leap.between(schedule, step - 1, step)
    if _order(schedule, step - 1) == 1:
        change = 0.5 * leap.clean_weight
        return leap.sample_weight, 0.0, leap.clean_weight - change, change
    ratio = leap.ratio_to(schedule, step - 2)
    slope_weight, change_weight = leap.corrector_weights(ratio)
    slope, change = leap.clean_weight * slope_weight / ratio, leap.clean_weight * change_weight
    return leap.sample_weight, slope, leap.clean_weight - slope - change, change


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
