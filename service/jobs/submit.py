"""SUBMIT: what its script takes, and what it says."""

import hashlib
import math
import zlib
from collections.abc import Callable
from itertools import chain
from typing import Any, cast, get_args

from pydantic_core import to_json
from redis import Redis
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer
from rq.utils import now, utcformat

from service.errors import BudgetExceeded, IdempotencyMismatch, QueueFull, ReplayedVideoDeleted, TenantQueueFull
from service.jobs.cache import cache_key
from service.jobs.execution import JobPayload
from service.jobs.fleet import Fleet, FleetChanged
from service.jobs.record import ReviewStage
from service.jobs.store import record_of
from service.jobs.submission import Submission, SubmitKind, Submitted
from service.settings import Settings

TASK = "worker.tasks.generate"
"""The import path that RQ stores with every job: wire format, written only here."""

IDEMPOTENCY_SECONDS = 24 * 3600
MAX_RETRY_AFTER_SECONDS = 600
UNKNOWN_SECONDS = 10.0
"""What a job is charged before its model was ever measured."""

DETAILS = {
    "ignored",
    "metadata",
    "file_name",
    "webhook",
    "quality",
    "remixed_from_video_id",
    "key_id",
    "original_prompt",
    "filter",
    "priority",
    "deadline_seconds",
}
"""Of a submission: what its video shows. No script of the queue reads it; the webhooks' read where the event goes."""


class Submitter:
    """Knows what RQ writes of every job. Asks Redis nothing, but for how many workers share what waits."""

    def __init__(self, redis: Redis, settings: Settings, *, num_workers: Callable[[], int]) -> None:
        self._settings = settings
        self._num_workers = num_workers
        self._rq_template = _rq_template(redis, settings)

    def words_of(self, submission: Submission, *, fleet: Fleet | None, is_memory_short: bool) -> list[Any]:
        """What scripts/submit.lua takes."""
        arguments = self._submit_arguments(submission) | {"is_memory_short": is_memory_short}
        if fleet is not None:
            arguments["fleet"] = fleet.digest
        job_fields = self._job_fields(submission) | {
            name: arguments[name] for name in ("fingerprint", "tenant", "cost", "cache_key") if name in arguments
        }
        return [
            to_json(arguments),
            submission.request.model_dump_json(),
            submission.model_dump_json(include=DETAILS),
            *chain.from_iterable(job_fields.items()),
        ]

    def outcome(self, submission: Submission, kind: str, answer: str, more: str) -> Submitted:
        """What scripts/submit.lua says of a submission. Asks Redis of one that has to wait. Raises as submit()."""
        match kind:
            case "fleet_changed":
                raise FleetChanged
            case "mismatch":
                raise IdempotencyMismatch(
                    "This Idempotency-Key was used with another request: use a new key.",
                    param="Idempotency-Key",
                )
            case "deleted":
                raise ReplayedVideoDeleted(
                    f"This Idempotency-Key's video {answer} was deleted: use a new key.",
                    param="Idempotency-Key",
                )
            case "short":
                raise QueueFull("The queue's memory is nearly full. Try again later.", retry_after_seconds=30)
            case "full":
                raise QueueFull(
                    f"{answer} jobs wait already. Try again later.",
                    retry_after_seconds=self._retry_after(more),
                )
            case "tenant_full":
                raise TenantQueueFull(
                    f"{answer} jobs of yours wait already. Try again when one has begun.",
                    retry_after_seconds=self._retry_after(more),
                )
            case "tenant_busy":
                raise TenantQueueFull(
                    f"{answer} jobs of yours wait or run already. Try again when one has ended.",
                    retry_after_seconds=self._retry_after(more),
                )
            case "over_budget":
                cost = _cost_of(submission)
                raise BudgetExceeded(
                    f"This takes {cost:.1f} GPU seconds, and {float(answer):.1f} are left of today's budget of "
                    f"{submission.daily_gpu_seconds_of_tenant:.1f}. A new day begins at 00:00 UTC.",
                    retry_after_seconds=math.ceil(float(more)),
                )
            case _:
                return submitted(kind, answer, more, submission)

    def _submit_arguments(self, submission: Submission) -> dict[str, object]:
        arguments: dict[str, object] = {
            "video_id": submission.video_id,
            "job_id": submission.job_id,
            "fingerprint": submission.fingerprint,
            "tenant": submission.tenant,
            "weight": submission.weight,
            "priority": submission.priority,
            "cost": _cost_of(submission),
            "max_depth": self._settings.max_queue_depth,
            "retention": self._settings.retention_seconds,
        }
        if submission.uses_cache:
            reviewed = _reviewed(submission)
            # A review is its tenant's own affair, and so is what comes of it.
            is_own = bool(reviewed) or self._settings.cache_scope == "tenant"
            arguments["cache_key"] = cache_key(
                submission.request,
                fingerprint=submission.fingerprint,
                scope=submission.tenant if is_own else "",
                reviewed=reviewed,
                frame_limit=self._settings.frame_limit,
                is_watermarked=self._settings.watermark == "on",
                parent_asset_id=None if submission.parent is None else submission.parent.asset_id,
            )
        if submission.review is not None:
            arguments["review"] = submission.review
        if submission.max_queued_by_tenant is not None:
            arguments["max_depth_of_tenant"] = submission.max_queued_by_tenant
        if submission.max_active_by_tenant is not None:
            arguments["max_active_of_tenant"] = submission.max_active_by_tenant
        if submission.daily_gpu_seconds_of_tenant is not None:
            arguments["budget_seconds"] = submission.daily_gpu_seconds_of_tenant
        if submission.deadline_seconds is not None:
            arguments["deadline_seconds"] = submission.deadline_seconds
        if submission.idempotency_key is not None:
            # Hashed, so that a key of any length or alphabet is safe in ours.
            digest = hashlib.sha256(submission.idempotency_key.encode()).hexdigest()
            arguments["idempotency"] = digest
            arguments["idempotency_seconds"] = IDEMPOTENCY_SECONDS
            arguments["body"] = submission.body_fingerprint
        return arguments

    def _job_fields(self, submission: Submission) -> dict[str, Any]:
        """RQ's own hash of a queued job, which `rq info`, dashboards and Job.fetch read, and the payload."""
        request, stamp = submission.request, iso_now()
        payload = JobPayload(
            job_id=submission.job_id,
            asset_id=submission.asset_id,
            request=request,
            fingerprint=submission.fingerprint,
            priority=submission.priority,
            deadline_seconds=submission.deadline_seconds,
            request_id=submission.request_id,
            traceparent=submission.traceparent,
            parent=submission.parent,
        )
        return self._rq_template | {
            "created_at": stamp,
            "enqueued_at": stamp,
            "data": _rq_data(submission.job_id),
            "origin": submission.priority,
            # Never the call itself: it would put the prompt into every dashboard and log.
            "description": f"{request.model} {request.width}x{request.height} {request.num_frames} frames",
            "payload": payload.model_dump_json(),
            "shape": request.shape,
            "frames": submission.frames,
        }

    def _retry_after(self, seconds_per_job: str) -> int:
        """Until a worker takes the next job, by the measured speed."""
        each = float(seconds_per_job) / max(1, self._num_workers())
        return min(MAX_RETRY_AFTER_SECONDS, max(1, math.ceil(each)))


def submitted(kind: str, video_id: str, answer: str, submission: Submission) -> Submitted:
    """From what scripts/submit.lua answers to a submission that it took."""
    sent = {submission.request.model_dump_json(): submission.request}
    return Submitted(kind=SubmitKind(kind), record=record_of(video_id, answer, sent=sent))


def _rq_template(redis: Redis, settings: Settings) -> dict[str, Any]:
    """What RQ writes of every job of ours alike; to ask it anew each time would cost more than SUBMIT itself."""
    job = Job.create(
        TASK,
        connection=redis,
        status=JobStatus.QUEUED,
        timeout=-1,
        result_ttl=settings.retention_seconds,
        failure_ttl=settings.retention_seconds,
        serializer=JSONSerializer,
    )
    job.retries_left = settings.max_attempts - 1
    return cast(dict[str, Any], job.to_dict())


def _cost_of(submission: Submission) -> float:
    """GPU seconds."""
    return submission.expected_seconds or UNKNOWN_SECONDS


def _reviewed(submission: Submission) -> tuple[ReviewStage, ...]:
    """What a person looks at of it, in any case."""
    looks = {"prompt": submission.review is not None, "frames": submission.frames == "everything"}
    return tuple(stage for stage in get_args(ReviewStage) if looks[stage])


def _rq_data(job_id: str) -> bytes:
    """The call that RQ's tools show; in zlib's format, though there is nothing to compress."""
    packer = zlib.compressobj(0, wbits=9, memLevel=1)
    return packer.compress(JSONSerializer.dumps((TASK, None, (job_id,), {}))) + packer.flush()


def iso_now() -> str:
    """RQ's own stamp, for its tools; nothing of ours depends on it."""
    return cast(str, utcformat(now()))
