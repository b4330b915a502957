"""A job that this worker has claimed, as its two threads see it."""

import time

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

        self.taken_at = time.time()
        """Unix seconds, as those of the stages."""

        self.entered: dict[str, float] = {self.progress.stage: self.taken_at}
        """When each stage was first come to."""

        self.signal = Signal.OK
        """The queue's last word on this job."""

        self.num_moves = 0
        """Grows with every sign of life of the thread that works on the job."""

    @property
    def id(self) -> str:
        return self.claim.payload.job_id

    @property
    def log_names(self) -> dict[str, str]:
        """By which its log lines are found."""
        request_id = self.claim.payload.request_id
        return {"job_id": self.id} if request_id is None else {"job_id": self.id, "request_id": request_id}

    def advance(self, progress: Progress) -> None:
        self.progress = progress
        self.num_moves += 1
        if progress.stage not in self.entered:
            self.entered[progress.stage] = time.time()

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
