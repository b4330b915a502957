"""What passes between the queue and a worker: a job, the right to it, how far it is, how it ended. Knows no Redis."""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from service.jobs.record import SCHEMA_VERSION, Asset, Parent, Priority, State, VideoError, VideoRequest, Wire
from service.moderation.categories import Category


class Outcome(Wire):
    """How a job ended. Exactly one of asset (completed) and error (otherwise) is set."""

    schema_version: Literal[1] = SCHEMA_VERSION
    state: State
    asset: Asset | None = None
    error: VideoError | None = None
    stage_durations: dict[str, float] = Field(default_factory=dict)
    """Seconds by stage: queued, text, denoise, decode, encode, upload, total."""

    frames_score: float | None = None
    """Of the worst frame that the frame check looked at, 0 to 1; None: it did not look."""

    inference_time_seconds: float | None = None
    peak_memory_mb: float | None = None
    worker: str | None = None
    prompt_tokens: int | None = None
    prompt_tokens_cut: int = 0
    """Those beyond what the text encoder holds: it did not see them."""

    @classmethod
    def completed(
        cls,
        asset: Asset,
        *,
        stage_durations: dict[str, float],
        inference_time_seconds: float,
        worker: str,
        peak_memory_mb: float | None = None,
        prompt_tokens: int | None = None,
        prompt_tokens_cut: int = 0,
        frames_score: float | None = None,
    ) -> "Outcome":
        return cls(
            state=State.COMPLETED,
            asset=asset,
            stage_durations=stage_durations,
            inference_time_seconds=inference_time_seconds,
            peak_memory_mb=peak_memory_mb,
            worker=worker,
            prompt_tokens=prompt_tokens,
            prompt_tokens_cut=prompt_tokens_cut,
            frames_score=frames_score,
        )

    @classmethod
    def failed(cls, code: str, message: str, *, worker: str | None = None) -> "Outcome":
        return cls(state=State.FAILED, error=VideoError(code=code, message=message), worker=worker)

    @classmethod
    def cancelled(cls, *, worker: str | None = None) -> "Outcome":
        return cls(
            state=State.CANCELLED,
            error=VideoError(code="cancelled", message="The video was cancelled."),
            worker=worker,
        )


class Finding(Wire):
    """What a finished video's frames show, where that is over the threshold."""

    category: Category
    score: float
    """Of the worst frame, 0 to 1."""


class JobPayload(Wire):
    """What a worker is given to do."""

    schema_version: Literal[1] = SCHEMA_VERSION
    job_id: str
    asset_id: str
    request: VideoRequest
    fingerprint: str
    """Of the card that the request was snapped to; only workers with this checkpoint get the job."""

    priority: Priority = "standard"
    """As first submitted; a twin that joins may be in more of a hurry."""

    deadline_seconds: float | None = None
    """From its submission on."""

    request_id: str | None = None
    """Of the HTTP request that made it, for log lines."""

    traceparent: str | None = None
    """Of that request's span."""

    parent: Parent | None = None
    """Whose history its file carries on."""


class Lease(Wire):
    """A worker's right to a job, for as long as it renews it. The execution id is the fence."""

    job_id: str
    execution_id: str


class Checkpoint(Wire):
    """Where the state of an interrupted job lies, and how many denoising steps it has behind it."""

    key: str
    step: int


class Claim(Wire):
    """A job that is now ours."""

    lease: Lease
    payload: JobPayload
    attempt: int
    """1 for the first start."""

    waited_seconds: float
    """From submit to this claim."""

    checkpoint: Checkpoint | None = None


class Signal(StrEnum):
    """What a worker hears about a job it holds."""

    OK = "ok"
    CANCEL = "cancel"
    """Nobody wants it any more: stop, then finish it as cancelled."""

    LOST = "lost"
    """The lease ran out and the job is someone else's: drop it, delete what was uploaded."""


class Verdict(StrEnum):
    """The answer to finish and release."""

    COMMITTED = "committed"
    HELD = "held"
    """Committed, but a person must look at the files before anybody gets them."""

    ALREADY_MINE = "already_mine"
    """An earlier call of mine committed; its reply was lost."""

    LOST = "lost"
    """Not mine, or nobody wants the result any more. Delete what was uploaded."""

    REFUSED = "refused"
    """Failed by its tenant's policy for what the frames show. Delete what was uploaded."""


class Progress(Wire):
    """How far a job is."""

    state: State = State.STARTED
    stage: str
    """text, denoise, decode, encode, upload."""

    step: int = Field(ge=0)
    num_steps: int = Field(ge=1)
    percent: int = Field(ge=0, le=99)
    """Of the whole job; 100 is shown only when completed."""


class ProgressMessage(Wire):
    """Sent by pub/sub at every change; subscribers of a terminal one read the record."""

    job_id: str
    video_id: str | None = None
    """None: every video that follows the job."""

    state: State
    stage: str | None = None
    step: int = 0
    num_steps: int = 0
    percent: int = 0


class Reclaimed(Wire):
    """A job whose worker went silent."""

    job_id: str
    worker: str
    action: Literal["requeued", "failed", "cancelled"]
    story: str
    """Every attempt so far, a sentence each."""
