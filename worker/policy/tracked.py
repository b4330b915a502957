"""A job with what has become of it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from worker.policy.job import WEIGHTS, Job, Phase

if TYPE_CHECKING:
    from model.experts import ExpertName

Place = Literal["waiting", "resident", "parked"]


class GroupKey(NamedTuple):
    """Who can share a forward."""

    latent_shape: tuple[int, ...]
    expert: "ExpertName"


@dataclass(slots=True, eq=False)
class TrackedJob:
    """Compared by identity. Of a denoised job only `is_denoised` and its bytes may be asked."""

    job: Job
    sequence: int
    """The order of add() calls: breaks every tie."""

    place: Place = "waiting"
    steps_done: int = 0

    @property
    def is_denoised(self) -> bool:
        return self.steps_done == self.job.num_steps

    @property
    def phase(self) -> Phase:
        """Of the next step."""
        return self._phase_after(0)[0]

    @property
    def phase_seconds(self) -> float:
        """Until the expert has done its part."""
        phase, steps_left = self._phase_after(0)
        return steps_left * phase.step_seconds

    @property
    def next_phase(self) -> Phase | None:
        """Of the step after the next one; None if that is the decoding."""
        return self._phase_after(1)[0] if self.steps_done + 1 < self.job.num_steps else None

    @property
    def group(self) -> GroupKey:
        return GroupKey(self.job.latent_shape, self.phase.expert)

    @property
    def step_tokens(self) -> int:
        return self.phase.rows * self.job.row_tokens

    def catches_up_with(self, other: "TrackedJob", *, token_budget: int) -> bool:
        """Whether the phase after this one can share the other's forwards."""
        return self.job.latent_shape == other.job.latent_shape and any(
            phase.expert == other.phase.expert and phase.rows * self.job.row_tokens + other.step_tokens <= token_budget
            for phase in self.job.phases_after(self.steps_done)[1:]
        )

    @property
    def remaining_seconds(self) -> float:
        """Run alone, decoding included."""
        seconds, skipped = self.job.decode_seconds, self.steps_done
        for phase in self.job.phases:
            steps_left = max(0, phase.num_steps - skipped)
            skipped = max(0, skipped - phase.num_steps)
            seconds += steps_left * phase.step_seconds
        return seconds

    @property
    def rank(self) -> tuple[float, float, int]:
        """Smallest first: remaining seconds per weight, then age.

        Smith's rule with what remains in place of the whole, which minimises the weighted mean completion (W. E.
        Smith, "Various optimizers for single-stage production", 1956). A job under way gets ahead with every
        step, so that of equal jobs one is finished before the next begins.
        """
        return (self.remaining_seconds / WEIGHTS[self.job.priority], self.job.arrived_at, self.sequence)

    def _phase_after(self, steps: int) -> tuple[Phase, int]:
        """The phase of the step that comes after `steps` more, and how many steps it then has left."""
        skipped = self.steps_done + steps
        for phase in self.job.phases:
            if skipped < phase.num_steps:
                return phase, phase.num_steps - skipped
            skipped -= phase.num_steps
        raise ValueError(f"{self.job.id} has no step left: decode and remove it.")
