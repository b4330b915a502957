"""The queue: jobs go in, are claimed, renewed and finished, each by one Lua script on RQ 3.0's own keys.

Execution is at least once, commit exactly once: the execution id that a claim draws is the fence. Every
method raises QueueUnavailable when Redis does not answer, and may then be called again with the same ids.
"""

import hashlib
import json
import math
import zlib
from base64 import b64encode
from collections.abc import Collection, Sequence
from itertools import chain
from typing import Any, cast, get_args

from pydantic import ValidationError
from pydantic_core import to_json
from redis import Redis
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer
from rq.utils import now, utcformat

from service.errors import (
    BudgetExceeded,
    IdempotencyMismatch,
    QueueFull,
    ReplayedVideoDeleted,
    TenantQueueFull,
    VideoNotFound,
)
from service.jobs.cache import cache_key, cache_limits
from service.jobs.connection import SOCKET_TIMEOUT_SECONDS, redis_errors
from service.jobs.execution import (
    Checkpoint,
    Claim,
    Finding,
    JobPayload,
    Lease,
    Outcome,
    Progress,
    Reclaimed,
    Signal,
    Verdict,
)
from service.jobs.fleet import Fleet, FleetChanged
from service.jobs.lua import load_script
from service.jobs.memory import MemoryGauge
from service.jobs.record import ReviewStage
from service.jobs.store import VideoStore, record_of
from service.jobs.submission import Submission, SubmitKind, Submitted
from service.moderation.categories import WORDING
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


class JobQueue:
    """Takes a client from connection.connect(), which the caller closes."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._settings = settings
        self._cache_limits = cache_limits(settings)
        self._store = VideoStore(redis)
        self._memory = MemoryGauge(redis)
        self._rq_template = _rq_template(redis, settings)
        self._submit = load_script(redis, "submit")
        self._claim = load_script(redis, "claim")
        self._renew = load_script(redis, "renew")
        self._report = load_script(redis, "report")
        self._checkpoint = load_script(redis, "checkpoint")
        self._reclaim = load_script(redis, "reclaim")
        self._release = load_script(redis, "release")
        self._finish = load_script(redis, "finish")
        self._cancel = load_script(redis, "cancel")
        self._expire = load_script(redis, "expire")
        self._depth = load_script(redis, "depth")

    @redis_errors()
    def submit(self, submission: Submission, *, fleet: Fleet | None = None) -> Submitted:
        """Replay, answer from the cache, join a running twin, or queue a new job: decided in one script.

        fleet: what the submission was made for, when it was not read just now. Raises FleetChanged where there is
        another one, IdempotencyMismatch, ReplayedVideoDeleted, and with Retry-After QueueFull, TenantQueueFull and
        BudgetExceeded.
        """
        words = self.words_of(submission, fleet=fleet, is_memory_short=self._memory.is_short())
        return self.outcome(submission, *self._submit(args=words))

    @redis_errors()
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

    def is_memory_short(self) -> bool | None:
        """As Redis said within the last second; None where it must be asked again."""
        return self._memory.last_answer()

    @redis_errors()
    def claim(
        self,
        *,
        worker: str,
        fingerprint: str,
        execution_id: str,
        shapes: Collection[str] = (),
        busy_seconds: float = 0.0,
    ) -> Claim | None:
        """Take the next job of the worker's checkpoint, or None. The same execution_id gives the same job again.

        Jobs of other checkpoints keep their places. fingerprint: the checkpoint's. execution_id: from
        record.new_execution_id(), a new one for every job. shapes: of requests that could share a forward with what
        the worker has; among the next few jobs one of these goes first. busy_seconds: GPU seconds that a job takes, on
        average of those that the worker has, where another one could only preempt them; then it gets none that
        will probably find a free worker sooner.
        """
        lease_seconds = self._settings.lease_seconds
        answer = self._claim(args=[worker, fingerprint, execution_id, lease_seconds, _iso_now(), busy_seconds, *shapes])
        if answer is None:
            return None
        job_id, payload, attempt, waited_seconds, key, step = answer
        lease = Lease(job_id=job_id, execution_id=execution_id)
        try:
            parsed = JobPayload.model_validate_json(payload)
        except ValidationError:
            message = "The job was written by another version of wanserve. Submit it again."
            self.finish(lease, Outcome.failed("incompatible_job", message, worker=worker))
            return None
        return Claim(
            lease=lease,
            payload=parsed,
            attempt=attempt,
            waited_seconds=float(waited_seconds),
            checkpoint=Checkpoint(key=key, step=int(step)) if key else None,
        )

    @redis_errors()
    def wait_for_work(self, *, fingerprint: str, timeout_seconds: float) -> bool:
        """Block until a job of this checkpoint may be waiting (True) or the time is over (False).

        Comes back after a few seconds at the latest, so that no job hangs on a wake-up that got lost.
        """
        longest = min(timeout_seconds, SOCKET_TIMEOUT_SECONDS / 2)
        return self._redis.blpop([f"wanserve:wake:{fingerprint}"], timeout=longest) is not None

    @redis_errors()
    def renew(self, leases: Sequence[Lease]) -> list[Signal]:
        """Prolong leases by lease_seconds on Redis' clock; one signal each, in order."""
        if not leases:
            return []
        pairs = [text for lease in leases for text in (lease.job_id, lease.execution_id)]
        answers = self._renew(args=[self._settings.lease_seconds, _iso_now(), *pairs])
        return [Signal(answer) for answer in answers]

    @redis_errors()
    def report(self, lease: Lease, progress: Progress, *, preview: bytes | None = None) -> Signal:
        """Write progress and publish it, at most once a second. Brings a cancellation fastest.

        preview: a small WebP picture, kept until the next one or the job's end.
        """
        where = [str(progress.state), progress.stage]
        how_far = [progress.step, progress.num_steps, progress.percent]
        picture = "" if preview is None else b64encode(preview).decode()
        return Signal(self._report(args=[lease.job_id, lease.execution_id, *where, *how_far, picture]))

    @redis_errors()
    def checkpoint(self, lease: Lease, key: str, *, step: int) -> Signal:
        """Name the object from which the job's next execution goes on; the one before it becomes garbage.

        With another answer than OK the object itself is garbage.
        """
        return Signal(self._checkpoint(args=[lease.job_id, lease.execution_id, key, step]))

    @redis_errors()
    def reclaim(self, *, limit: int = 50) -> list[Reclaimed]:
        """Requeue, at the front, jobs whose lease ran out; fail those that used up their attempts.

        Call it only when this process' own link to Redis has been healthy for one lease: after an outage
        all leases look dead.
        """
        answers = self._reclaim(args=[_iso_now(), limit])
        return [
            Reclaimed(job_id=job_id, worker=worker, action=action, story=story)
            for job_id, worker, action, story in answers
        ]

    @redis_errors()
    def finish(self, lease: Lease, outcome: Outcome, *, finding: Finding | None = None) -> Verdict:
        """Commit: result, every follower's record and event, cache entry. Also for failed and cancelled.

        finding: what the frames of a completed one show; by its tenant's policy it is held for a person, or fails.
        """
        arguments: dict[str, object] = {
            "job_id": lease.job_id,
            "execution_id": lease.execution_id,
            "state": outcome.state,
            "outcome": outcome.model_dump_json(exclude_none=True),
            "iso": _iso_now(),
            "rq_result": _rq_result(outcome),
            "files": [],
            "cache": self._cache_limits,
        }
        if (asset := outcome.asset) is not None:
            arguments["asset_id"] = asset.id
            arguments["files"] = [file.key for file in asset.files]
            arguments["num_bytes"] = sum(file.size_bytes for file in asset.files)
        if finding is not None:
            arguments["finding"] = finding.model_dump()
            arguments["refusal"] = f"The finished video was refused: it shows {WORDING[finding.category]}."
        if outcome.inference_time_seconds is not None:
            arguments["seconds"] = outcome.inference_time_seconds
        return Verdict(self._finish(args=[json.dumps(arguments, ensure_ascii=False)]))

    @redis_errors()
    def has_ended(self, lease: Lease) -> bool:
        """Whether the job ended, or is held, by this lease: asks what became of a finish() that raised."""
        execution, *ends = self._redis.hmget(f"rq:job:{lease.job_id}", "execution", "ended_as", "held")
        return execution == lease.execution_id and any(end is not None for end in ends)

    def release(self, lease: Lease) -> Verdict:
        """Hand a job back to the front of the queue without costing an attempt (shutdown)."""
        return self._hand_back(lease, reason="")

    def retry(self, lease: Lease, reason: str) -> Verdict:
        """Hand a job back and count the attempt; fails it, reason in its error, when attempts are used up."""
        return self._hand_back(lease, reason=reason or "no reason given.")

    @redis_errors()
    def cancel(self, video_id: str, *, tenant: str | None = None) -> bool:
        """Cancel one video; its job stops when no other video follows it. False: it had already ended.

        tenant: whose it must be; None for anybody's. Raises VideoNotFound.
        """
        if tenant is not None:
            self._store.get(video_id, tenant=tenant)
        match self._cancel(args=[video_id, _iso_now()]):
            case "given_up":
                return True
            case "ended":
                return False
            case _:
                raise VideoNotFound(f"There is no video {video_id}.", param="id")

    @redis_errors()
    def expire(self, *, limit: int = 100) -> int:
        """End videos that are past their deadline, remove those whose time is over, and old cache entries.

        At most limit of each kind; returns how many.
        """
        return sum(self._expire(args=[_iso_now(), limit]))

    @redis_errors()
    def depth(self) -> int:
        """Jobs that wait. O(number of priorities and checkpoints)."""
        num_jobs, _ = self._depth()
        return cast(int, num_jobs)

    @redis_errors()
    def num_running(self) -> int:
        """Jobs that are leased. O(1)."""
        return self._redis.zcard("wanserve:leases")

    @redis_errors()
    def _hand_back(self, lease: Lease, *, reason: str) -> Verdict:
        return Verdict(self._release(args=[lease.job_id, lease.execution_id, _iso_now(), reason]))

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
        request, stamp = submission.request, _iso_now()
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
        num_workers = max(1, len(self._store.live_workers()))
        return min(MAX_RETRY_AFTER_SECONDS, max(1, math.ceil(float(seconds_per_job) / num_workers)))


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


def _iso_now() -> str:
    """RQ's own stamp, for its tools; nothing of ours depends on it."""
    return cast(str, utcformat(now()))


def _rq_result(outcome: Outcome) -> str:
    """What RQ's Result.restore() reads back: the asset's id, or the error."""
    if outcome.error is not None:
        text = f"{outcome.error.code}: {outcome.error.message}"
        return b64encode(zlib.compress(text.encode())).decode()
    asset_id = None if outcome.asset is None else outcome.asset.id
    return b64encode(json.dumps({"asset_id": asset_id}).encode()).decode()
