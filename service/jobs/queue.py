"""The queue: jobs go in, are claimed, renewed and finished, each by one Lua script on RQ 3.0's own keys.

Execution is at least once, commit exactly once: the execution id that a claim draws is the fence. Every
method raises QueueUnavailable when Redis does not answer, and may then be called again with the same ids.
"""

import json
import zlib
from base64 import b64encode
from collections.abc import Collection, Sequence
from typing import cast

from pydantic import ValidationError
from redis import Redis

from service.errors import (
    VideoNotFound,
)
from service.jobs.cache import cache_limits
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
from service.jobs.fleet import Fleet
from service.jobs.lua import load_script
from service.jobs.memory import MemoryGauge
from service.jobs.store import VideoStore
from service.jobs.submission import Submission, Submitted
from service.jobs.submit import Submitter, iso_now
from service.moderation.categories import WORDING
from service.settings import Settings


class JobQueue:
    """Takes a client from connection.connect(), which the caller closes."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._settings = settings
        self._cache_limits = cache_limits(settings)
        self._store = VideoStore(redis)
        self._memory = MemoryGauge(redis)
        self.submitter = Submitter(redis, settings, num_workers=lambda: len(self._store.live_workers()))
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
        words = self.submitter.words_of(submission, fleet=fleet, is_memory_short=self._memory.is_short())
        return self.submitter.outcome(submission, *self._submit(args=words))

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
        answer = self._claim(args=[worker, fingerprint, execution_id, lease_seconds, iso_now(), busy_seconds, *shapes])
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
        answers = self._renew(args=[self._settings.lease_seconds, iso_now(), *pairs])
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
        answers = self._reclaim(args=[iso_now(), limit])
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
            "iso": iso_now(),
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
        match self._cancel(args=[video_id, iso_now()]):
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
        return sum(self._expire(args=[iso_now(), limit]))

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
        return Verdict(self._release(args=[lease.job_id, lease.execution_id, iso_now(), reason]))


def _rq_result(outcome: Outcome) -> str:
    """What RQ's Result.restore() reads back: the asset's id, or the error."""
    if outcome.error is not None:
        text = f"{outcome.error.code}: {outcome.error.message}"
        return b64encode(zlib.compress(text.encode())).decode()
    asset_id = None if outcome.asset is None else outcome.asset.id
    return b64encode(json.dumps({"asset_id": asset_id}).encode()).decode()
