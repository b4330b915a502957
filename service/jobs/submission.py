"""What passes between a gateway and the queue: a request on its way in, and what became of it. Knows no Redis."""

from enum import StrEnum

from pydantic import Field

from service.jobs.record import (
    DEFAULT_TENANT,
    FilterVerdict,
    Parent,
    Priority,
    VideoRecord,
    VideoRequest,
    Webhook,
    Wire,
    new_asset_id,
    new_job_id,
    new_video_id,
)
from service.moderation.policy import ReviewRule


class Submission(Wire):
    """A request on its way into the queue, its ids drawn before: a repeated call changes nothing."""

    video_id: str = Field(default_factory=new_video_id)
    job_id: str = Field(default_factory=new_job_id)
    asset_id: str = Field(default_factory=new_asset_id)
    request: VideoRequest
    fingerprint: str
    """Of the model card."""

    idempotency_key: str | None = None
    body_fingerprint: str = ""
    """cache.body_fingerprint() of the raw body; compared when the key is seen again."""

    ignored: tuple[str, ...] = ()
    metadata: dict[str, str] = Field(default_factory=dict)
    file_name: str | None = None
    webhook: Webhook | None = None
    quality: str | None = None
    remixed_from_video_id: str | None = None
    parent: Parent | None = None
    """Of a remix whose original was finished."""

    original_prompt: str | None = None
    """The caller's own, where the request has an extended one."""

    key_id: str | None = None
    """Of the API key that asked for it."""

    request_id: str | None = None
    """Of the HTTP request that it came with: every log line of its job names it."""

    traceparent: str | None = None
    """Of the span of that request: the job's spans are its children."""

    expected_seconds: float | None = None
    """GPU seconds by the card: what the tenant is charged in the queue's order."""

    tenant: str = DEFAULT_TENANT
    weight: float = Field(1.0, gt=0)
    """The tenant's share of the GPU while others wait too."""

    max_queued_by_tenant: int | None = None
    max_active_by_tenant: int | None = None
    review: str | None = None
    """Why a person must look at it before it is made: a category, or "everything". None: nobody must."""

    filter: FilterVerdict | None = None
    """What the prompt filter said; None: nobody asked it."""

    frames: ReviewRule = "flagged"
    """What a person must look at once it is made; "never": what the frame check flags fails."""

    daily_gpu_seconds_of_tenant: float | None = None
    priority: Priority = "standard"
    deadline_seconds: float | None = None
    """After which the video fails, completed or not begun."""

    uses_cache: bool = True
    """False: takes no earlier result, joins no twin, and gives none."""


class SubmitKind(StrEnum):
    QUEUED = "queued"
    """A new job waits."""

    CACHED = "cached"
    """Completed at once from an identical request's files."""

    JOINED = "joined"
    """Follows an identical job that waits or runs."""

    REPLAYED = "replayed"
    """The Idempotency-Key's first video."""


class Submitted(Wire):
    kind: SubmitKind
    record: VideoRecord
