"""A job that this worker has claimed, as its two threads see it."""

from service.jobs.execution import Claim, Progress, Signal
from service.jobs.record import State


class HeldJob:
    """The engine's thread writes progress, the heartbeat the signal. Each is one assignment: no lock."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.progress = Progress(stage="text", step=0, num_steps=claim.payload.request.num_inference_steps, percent=0)
        self.reported: Progress | None = None
        """What the queue was told last; the heartbeat's own."""

        self.preview: bytes | None = None
        """A WebP picture that the queue was not told of yet."""

        self.prompt_tokens: int | None = None
        self.prompt_tokens_cut = 0
        """Those that the text encoder does not see."""

        self.signal = Signal.OK
        """The queue's last word on this job."""

        self.num_moves = 0
        """Grows with every sign of life of the thread that works on the job."""

    @property
    def id(self) -> str:
        return self.claim.payload.job_id

    def advance(self, progress: Progress) -> None:
        self.progress = progress
        self.num_moves += 1

    def enter(self, stage: str, *, percent: int) -> None:
        """A stage after denoising."""
        steps = self.progress.num_steps
        self.advance(Progress(state=State.FINISHING, stage=stage, step=steps, num_steps=steps, percent=percent))

    def take_preview(self) -> bytes | None:
        """Once; the heartbeat's."""
        preview, self.preview = self.preview, None
        return preview

    def touch(self) -> None:
        """Nothing new, but alive: waiting for a store that does not answer."""
        self.num_moves += 1
