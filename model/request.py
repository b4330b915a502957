"""One generation under way: all that changes from step to step, and nothing that others share."""

from dataclasses import dataclass

import torch

from model.cost import guidance_rows
from model.experts import ExpertName
from model.params import GenerationParams
from model.schedule import Schedule
from model.text import TextKeysValues
from model.unipc import SolverState


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class ExpertText:
    """The text as one expert sees it, and for which expert that was computed."""

    expert: ExpertName
    blocks: list[TextKeysValues]


@dataclass(slots=True, eq=False)
class Request:
    """The state of one job in the engine; made by Engine.prepare(), changed by Engine.step() only."""

    params: GenerationParams
    schedule: Schedule
    latents: torch.Tensor
    """1 c f h w, float32."""

    weights: torch.Tensor
    """unipc.solver_weights() of the schedule."""

    rotary: torch.Tensor
    """denoise.rotary_table() for the latents' shape."""

    prompt_embeds: torch.Tensor
    """n d, without padding."""

    negative_prompt_embeds: torch.Tensor | None
    """n d, without padding; None where guidance is off throughout."""

    solver: SolverState
    """1 c f h w; may be a part of what a whole batch computed together."""

    step: int = 0
    """Steps done so far, and so the index of the next one."""

    text: ExpertText | None = None
    text_seconds: float = 0.0
    denoise_seconds: float = 0.0

    @property
    def is_denoised(self) -> bool:
        return self.step == self.schedule.num_steps

    @property
    def remaining_steps(self) -> int:
        return self.schedule.num_steps - self.step

    @property
    def timestep(self) -> int:
        return self.schedule.timesteps[self.step]

    @property
    def expert(self) -> ExpertName:
        """Of the next step."""
        return self.expert_of(self.step)

    def expert_of(self, step: int) -> ExpertName:
        return "high_noise" if self.schedule.is_high_noise(step) else "low_noise"

    @property
    def guidance_scale(self) -> float:
        """Of the expert whose turn it is."""
        high_noise = self.expert == "high_noise"
        return self.params.guidance_scale if high_noise else self.params.guidance_scale_2

    @property
    def rows(self) -> list[torch.Tensor]:
        """The prompts of the next forward: with guidance also the negative one."""
        if guidance_rows(self.guidance_scale) == 1 or self.negative_prompt_embeds is None:
            return [self.prompt_embeds]
        return [self.prompt_embeds, self.negative_prompt_embeds]

    def move(self, device: torch.device) -> None:
        """The latents, the solver's state and the prompts; what is made anew elsewhere is left where it is."""
        solver, latents, positive = self.solver.to(device), self.latents.to(device), self.prompt_embeds.to(device)
        if self.negative_prompt_embeds is not None:
            self.negative_prompt_embeds = self.negative_prompt_embeds.to(device)
        self.solver, self.latents, self.prompt_embeds = solver, latents, positive


def initial_noise(shape: tuple[int, ...], seed: int, *, device: torch.device) -> torch.Tensor:
    """Standard normal latents, float32."""
    # Generators of other devices draw other numbers from the same seed.
    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed)).to(device)
