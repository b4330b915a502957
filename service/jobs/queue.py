"""The queue: jobs go in, are claimed, renewed and finished, each by one Lua script on RQ 3.0's own keys.

Execution is at least once, commit exactly once: the execution id that a claim draws is the fence. Every
method raises QueueUnavailable when Redis does not answer, and may then be called again with the same ids.
"""

import hashlib
import json
import zlib
from base64 import b64encode
from collections.abc import Sequence
from typing import Any, cast

from pydantic import ValidationError
from redis import Redis
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer
from rq.utils import now, utcformat

from service.errors import IdempotencyMismatch, QueueFull, ReplayedVideoDeleted, VideoNotFound
from service.jobs.cache import cache_key
from service.jobs.connection import SOCKET_TIMEOUT_SECONDS, redis_errors
from service.jobs.lua import load_script
from service.jobs.memory import MemoryGauge
from service.jobs.record import (
    Claim,
    JobPayload,
    Lease,
    Outcome,
    Progress,
    Reclaimed,
    Signal,
    Submission,
    SubmitKind,
    Submitted,
    Verdict,
)
from service.jobs.store import VideoStore
from service.settings import Settings

TASK = "worker.tasks.generate"
"""The import path that RQ stores with every job: wire format, written only here."""

QUEUE = "standard"
IDEMPOTENCY_SECONDS = 24 * 3600
MAX_RETRY_AFTER_SECONDS = 600


class JobQueue:
    """Takes a client from connection.connect(), which the caller closes."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._settings = settings
        self._store = VideoStore(redis)
        self._memory = MemoryGauge(redis)
        self._submit = load_script(redis, "submit")
        self._claim = load_script(redis, "claim")
        self._renew = load_script(redis, "renew")
        self._report = load_script(redis, "report")
        self._reclaim = load_script(redis, "reclaim")
        self._release = load_script(redis, "release")
        self._finish = load_script(redis, "finish")
        self._cancel = load_script(redis, "cancel")

    @redis_errors()
    def submit(self, submission: Submission) -> Submitted:
        """Replay, answer from the cache, join a running twin, or queue a new job: decided in one script.

        Raises IdempotencyMismatch, ReplayedVideoDeleted, QueueFull (with Retry-After).
        """
        arguments = json.dumps(self._submit_arguments(submission), ensure_ascii=False)
        kind, answer = self._submit(args=[arguments, *self._rq_fields(submission)])
        match kind:
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
                    retry_after_seconds=self._retry_after(submission.expected_seconds),
                )
            case _:
                return Submitted(kind=SubmitKind(kind), record=self._store.get(answer))

    @redis_errors()
    def claim(self, *, worker: str, fingerprint: str, execution_id: str) -> Claim | None:
        """Take the next job of the worker's checkpoint, or None. The same execution_id gives the same job again.

        Jobs of other checkpoints keep their places. fingerprint: the checkpoint's. execution_id: from
        record.new_execution_id(), a new one for every job.
        """
        lease_seconds = self._settings.lease_seconds
        answer = self._claim(args=[QUEUE, worker, fingerprint, execution_id, lease_seconds, _iso_now()])
        if answer is None:
            return None
        job_id, payload, attempt, waited_seconds = answer
        lease = Lease(job_id=job_id, execution_id=execution_id)
        try:
            parsed = JobPayload.model_validate_json(payload)
        except ValidationError:
            message = "The job was written by another version of wanserve. Submit it again."
            self.finish(lease, Outcome.failed("incompatible_job", message, worker=worker))
            return None
        return Claim(lease=lease, payload=parsed, attempt=attempt, waited_seconds=float(waited_seconds))

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
    def report(self, lease: Lease, progress: Progress) -> Signal:
        """Write progress and publish it, at most once a second. Brings a cancellation fastest."""
        where = [str(progress.state), progress.stage]
        how_far = [progress.step, progress.num_steps, progress.percent]
        return Signal(self._report(args=[lease.job_id, lease.execution_id, *where, *how_far]))

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
    def finish(self, lease: Lease, outcome: Outcome) -> Verdict:
        """Commit: result, every follower's record and event, cache entry. Also for failed and cancelled."""
        arguments = {
            "job_id": lease.job_id,
            "execution_id": lease.execution_id,
            "state": outcome.state,
            "outcome": outcome.model_dump_json(exclude_none=True),
            "iso": _iso_now(),
            "rq_result": _rq_result(outcome),
            **({} if outcome.asset is None else {"asset_id": outcome.asset.id}),
        }
        return Verdict(self._finish(args=[json.dumps(arguments, ensure_ascii=False)]))

    @redis_errors()
    def has_ended(self, lease: Lease) -> bool:
        """Whether the job ended by this lease: asks what became of a finish() that raised."""
        execution, ended_as = self._redis.hmget(f"rq:job:{lease.job_id}", "execution", "ended_as")
        return execution == lease.execution_id and ended_as is not None

    def release(self, lease: Lease) -> Verdict:
        """Hand a job back to the front of the queue without costing an attempt (shutdown)."""
        return self._hand_back(lease, reason="")

    def retry(self, lease: Lease, reason: str) -> Verdict:
        """Hand a job back and count the attempt; fails it, reason in its error, when attempts are used up."""
        return self._hand_back(lease, reason=reason or "no reason given.")

    @redis_errors()
    def cancel(self, video_id: str) -> bool:
        """Cancel one video; its job stops when no other video follows it. False: it had already ended.

        Raises VideoNotFound.
        """
        match self._cancel(args=[video_id, _iso_now()]):
            case "cancelled":
                return True
            case "ended":
                return False
            case _:
                raise VideoNotFound(f"There is no video {video_id}.", param="id")

    @redis_errors()
    def depth(self) -> int:
        """Jobs that wait. O(1)."""
        return self._redis.llen(f"rq:queue:{QUEUE}")

    @redis_errors()
    def num_running(self) -> int:
        """Jobs that are leased. O(1)."""
        return self._redis.zcard("wanserve:leases")

    @redis_errors()
    def _hand_back(self, lease: Lease, *, reason: str) -> Verdict:
        return Verdict(self._release(args=[lease.job_id, lease.execution_id, _iso_now(), reason]))

    def _submit_arguments(self, submission: Submission) -> dict[str, object]:
        request = submission.request
        payload = JobPayload(
            job_id=submission.job_id,
            asset_id=submission.asset_id,
            request=request,
            fingerprint=submission.fingerprint,
        )
        arguments = {
            "video_id": submission.video_id,
            "job_id": submission.job_id,
            "request": request.model_dump_json(),
            "details": submission.model_dump_json(include={"ignored", "metadata", "file_name"}),
            "payload": payload.model_dump_json(),
            "fingerprint": submission.fingerprint,
            "cache_key": cache_key(request, fingerprint=submission.fingerprint),
            "queue": QUEUE,
            "max_depth": self._settings.max_queue_depth,
            "is_memory_short": self._memory.is_short(),
            "retention": self._settings.retention_seconds,
        }
        if submission.idempotency_key is not None:
            # Hashed, so that a key of any length or alphabet is safe in ours.
            digest = hashlib.sha256(submission.idempotency_key.encode()).hexdigest()
            arguments["idempotency"] = digest
            arguments["idempotency_seconds"] = IDEMPOTENCY_SECONDS
            arguments["body"] = submission.body_fingerprint
        return arguments

    def _rq_fields(self, submission: Submission) -> list[Any]:
        """RQ's own hash of a queued job, flat: what `rq info`, dashboards and Job.fetch read."""
        request = submission.request
        job = Job.create(
            TASK,
            args=[submission.job_id],
            connection=self._redis,
            id=submission.job_id,
            origin=QUEUE,
            status=JobStatus.QUEUED,
            # Never the call itself: it would put the prompt into every dashboard and log.
            description=f"{request.model} {request.width}x{request.height} {request.num_frames} frames",
            timeout=-1,
            result_ttl=self._settings.retention_seconds,
            failure_ttl=self._settings.retention_seconds,
            serializer=JSONSerializer,
        )
        job.enqueued_at = now()
        job.retries_left = self._settings.max_attempts - 1
        return [part for pair in job.to_dict().items() for part in pair]

    def _retry_after(self, expected_seconds: float | None) -> int:
        """Until a worker has room again, by the measured speed."""
        num_workers = max(1, len(self._store.live_workers()))
        seconds = 10.0 if expected_seconds is None else expected_seconds / num_workers
        return min(MAX_RETRY_AFTER_SECONDS, max(1, round(seconds)))


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
