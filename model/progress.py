"""How far a generation is, and whether it is still wanted."""

from collections.abc import Callable
from dataclasses import dataclass

from model.errors import Cancelled
from model.request import Request


@dataclass(frozen=True, slots=True)
class Progress:
    """Reported after the text, every step and every decoded chunk."""

    completed_steps: int
    num_inference_steps: int
    completed_frames: int
    num_frames: int

    @classmethod
    def of(cls, request: Request, *, completed_frames: int = 0) -> "Progress":
        return cls(
            completed_steps=request.step,
            num_inference_steps=request.schedule.num_steps,
            completed_frames=completed_frames,
            num_frames=request.params.num_frames,
        )

    @property
    def fraction(self) -> float:
        """0..1; decoding counts as one step."""
        decoded = self.completed_frames / self.num_frames
        return (self.completed_steps + decoded) / (self.num_inference_steps + 1)


def ignore_progress(progress: Progress) -> None:
    pass


def never() -> bool:
    """For whoever is asked whether to stop."""
    return False


def stop_if(should_cancel: Callable[[], bool], request: Request) -> None:
    """Raises Cancelled where it says so."""
    if should_cancel():
        raise Cancelled(f"Cancelled after {request.step} of {request.schedule.num_steps} steps.")
