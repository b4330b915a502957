"""The queue: jobs go in, are claimed, renewed and finished, each by one Lua script on RQ 3.0's own keys.

Execution is at least once, commit exactly once: the execution id that a claim draws is the fence. Every
method raises QueueUnavailable when Redis does not answer, and may then be called again with the same ids.
"""

from collections.abc import Sequence

from redis import Redis

from service.jobs.record import (
    Claim,
    Lease,
    Outcome,
    Progress,
    Reclaimed,
    Signal,
    Submission,
    Submitted,
    Verdict,
)
from service.settings import Settings

TASK = "worker.tasks.generate"
"""The import path that RQ stores with every job: wire format, written only here."""

QUEUE = "standard"


class JobQueue:
    """Takes a client from connection.connect(), which the caller closes."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        raise NotImplementedError

    def submit(self, submission: Submission) -> Submitted:
        """Replay, answer from the cache, join a running twin, or queue a new job: decided in one script.

        Raises IdempotencyMismatch, ReplayedVideoDeleted, QueueFull (with Retry-After).
        """
        raise NotImplementedError

    def claim(self, *, worker: str, execution_id: str) -> Claim | None:
        """Take the next job, or None. Asking again with the same execution_id gives the same job again.

        execution_id: from record.new_execution_id(), a new one for every job.
        """
        raise NotImplementedError

    def wait_for_work(self, *, timeout_seconds: float) -> bool:
        """Block until a job may be waiting (True) or the time is over (False)."""
        raise NotImplementedError

    def renew(self, leases: Sequence[Lease]) -> list[Signal]:
        """Prolong leases by lease_seconds on Redis' clock; one signal each, in order."""
        raise NotImplementedError

    def report(self, lease: Lease, progress: Progress) -> Signal:
        """Write progress and publish it, at most once a second. Brings a cancellation fastest."""
        raise NotImplementedError

    def reclaim(self, *, limit: int = 50) -> list[Reclaimed]:
        """Requeue, at the front, jobs whose lease ran out; fail those that used up their attempts.

        Call it only when this process' own link to Redis has been healthy for one lease: after an outage
        all leases look dead.
        """
        raise NotImplementedError

    def finish(self, lease: Lease, outcome: Outcome) -> Verdict:
        """Commit: result, every follower's record and event, cache entry. Also for failed and cancelled."""
        raise NotImplementedError

    def release(self, lease: Lease) -> Verdict:
        """Hand a job back to the front of the queue without costing an attempt (shutdown)."""
        raise NotImplementedError

    def retry(self, lease: Lease, reason: str) -> Verdict:
        """Hand a job back and count the attempt; fails it, reason in its error, when attempts are used up."""
        raise NotImplementedError

    def cancel(self, video_id: str) -> bool:
        """Cancel one video; its job stops when no other video follows it. False: it had already ended.

        Raises VideoNotFound.
        """
        raise NotImplementedError

    def depth(self) -> int:
        """Jobs that wait. O(1)."""
        raise NotImplementedError

    def num_running(self) -> int:
        """Jobs that are leased. O(1)."""
        raise NotImplementedError

    def position(self, job_id: str) -> int | None:
        """0 is next; None when the job does not wait."""
        raise NotImplementedError
