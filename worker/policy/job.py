"""What the policy is told of a job: plain numbers, no tensors."""

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    # For the checker alone: that module imports torch.
    from model.experts import ExpertName

Priority = Literal["interactive", "standard", "bulk"]

WEIGHTS: dict[Priority, float] = {"interactive": 16.0, "standard": 4.0, "bulk": 1.0}
"""What a second of waiting weighs: a standard job goes before a bulk one up to four times as short."""


@dataclass(frozen=True, slots=True)
class Phase:
    """The steps that one expert does in a row."""

    expert: "ExpertName"
    num_steps: int
    rows: int
    """Of one step's forward: 2 with guidance."""

    step_seconds: float
    """Estimated, run alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job as it comes, waiting. Raises ValueError for numbers that no order could be made from."""

    id: str
    priority: Priority
    arrived_at: float
    """Seconds on the clock of decide()."""

    deadline: float | None = None
    """When it should be done, on the same clock."""

    latent_shape: tuple[int, ...]
    """Only jobs of equal shape share a forward."""

    row_tokens: int
    phases: tuple[Phase, ...]
    """What remains, in order; a resumed job has less."""

    decode_seconds: float
    resident_bytes: int
    """Of its state on the device."""

    parked_bytes: int
    """Of its state in host memory."""

    def __post_init__(self) -> None:
        if self.priority not in WEIGHTS:
            raise ValueError(f"{self.id} has priority {self.priority}; give {', '.join(WEIGHTS)}.")
        if self.num_steps == 0:
            raise ValueError(f"{self.id} has no step left: decode it.")
        seconds = (self.decode_seconds, *(phase.step_seconds for phase in self.phases))
        if not all(0 <= each < math.inf for each in seconds):
            raise ValueError(f"{self.id} has estimates of {seconds} s; give finite numbers from 0.")
        if not math.isfinite(self.arrived_at) or math.isnan(self.deadline or 0.0):
            raise ValueError(f"{self.id} arrived at {self.arrived_at}, due {self.deadline}: give times of one clock.")

    @property
    def num_steps(self) -> int:
        return sum(phase.num_steps for phase in self.phases)

    @property
    def seconds(self) -> float:
        """Run alone, decoding included."""
        return self.decode_seconds + sum(phase.num_steps * phase.step_seconds for phase in self.phases)

    def phases_after(self, steps_done: int) -> tuple[Phase, ...]:
        """The phase under way, and those to come."""
        ends = itertools.accumulate(phase.num_steps for phase in self.phases)
        return tuple(
            phase for phase, end in zip(self.phases, ends, strict=True) if phase.num_steps and steps_done < end
        )
