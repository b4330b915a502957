"""What a batch is: many requests in one file, made when nobody waits for them. Knows no Redis and no HTTP."""

import json
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BeforeValidator

from service.jobs.record import Wire


class BatchStatus(StrEnum):
    """A batch's life, in order; the last four are its ends."""

    VALIDATING = "validating"
    """Its lines are counted."""

    IN_PROGRESS = "in_progress"
    """Its requests are submitted, some at a time, and made."""

    CANCELLING = "cancelling"
    """No more are submitted, those that wait and run are cancelled, and the files are written."""

    FINALIZING = "finalizing"
    """All requests have ended; the files are written."""

    COMPLETED = "completed"
    FAILED = "failed"
    """Its file can't be a batch; errors say why."""

    CANCELLED = "cancelled"
    EXPIRED = "expired"
    """Its window was over before all requests had ended."""


class BatchError(Wire):
    """Why a whole batch failed."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


class Refusal(Wire):
    """Why one request was not submitted."""

    code: str
    message: str
    param: str | None = None
    category: str | None = None
    """Of what moderation refused."""

    http_status: int


def _from_json(value: object) -> object:
    return json.loads(value) if isinstance(value, str) else value


Parsed = BeforeValidator(_from_json)


class Batch(Wire):
    """As it lies in Redis, a hash."""

    id: str
    tenant: str
    endpoint: Literal["/v1/videos"] = "/v1/videos"
    """Where each of its requests would go alone."""

    input_file_id: str
    input_key: str
    """Of the object."""

    input_bytes: int
    completion_window: str
    metadata: Annotated[dict[str, str], Parsed]
    keep_seconds: int
    """How long the record stays after its end, and what it wrote from its creation on."""

    status: BatchStatus
    ends_as: Literal["completed", "expired"] = "completed"
    """When the files are written."""

    number: int
    """Of the request to submit next, 1 for the first."""

    offset: int
    """Where its line begins in the file."""

    total: int
    """Requests in the file; 0 until they are counted."""

    completed: int
    failed: int
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: Annotated[tuple[BatchError, ...], Parsed] = ()

    created_at: float
    """Unix seconds on Redis' clock, as all stamps here."""

    expires_at: float
    """The end of its window."""

    seen_at: float = 0.0
    """When its feeder looked."""

    in_progress_at: float | None = None
    finalizing_at: float | None = None
    completed_at: float | None = None
    failed_at: float | None = None
    expired_at: float | None = None
    cancelling_at: float | None = None
    cancelled_at: float | None = None

    @property
    def is_fed(self) -> bool:
        """Nothing is left to submit."""
        return self.number > self.total

    @property
    def is_late(self) -> bool:
        """Its window is over."""
        return self.seen_at >= self.expires_at
