"""The jobs that this worker holds: taking, keeping, giving back. Knows no engine and no storage."""

import threading
from collections.abc import Callable, Collection

from service.jobs.execution import Finding, Outcome, Reclaimed, Signal, Verdict
from service.jobs.queue import JobQueue
from service.jobs.record import new_execution_id
from service.logs import get_logger
from worker.held import HeldJob
from worker.patience import insist
from worker.shutdown import Shutdown
from worker.stall import StallWatch

LAST_SECONDS = 1.0
"""Of a shutdown's grace: kept for what follows when Redis never took an outcome."""

log = get_logger(__name__)


class Inbox:
    """The loop takes jobs, it and the finishing threads end them; report(), keep() and reclaim() are the heartbeat's.

    fingerprint: the loaded checkpoint's; jobs of another one are left to others.
    """

    def __init__(
        self, queue: JobQueue, shutdown: Shutdown, watch: StallWatch, *, worker: str, fingerprint: str
    ) -> None:
        self._queue = queue
        self._shutdown = shutdown
        self._watch = watch
        self._worker = worker
        self._fingerprint = fingerprint
        self._next_execution_id = new_execution_id()
        # Replaced, never changed: the heartbeat reads it while the loop and the finishing threads take and end jobs.
        self._held: tuple[HeldJob, ...] = ()
        self._lock = threading.Lock()

    @property
    def held(self) -> tuple[HeldJob, ...]:
        """In the order in which they were claimed."""
        return self._held

    def next_job(
        self, *, wait_seconds: float, shapes: Collection[str] = (), busy_seconds: float = 0.0
    ) -> HeldJob | None:
        """Claim the next job, rather one of these shapes; wait for one so long, 0 not at all, else None.

        busy_seconds: as JobQueue.claim() takes it. Raises QueueUnavailable.
        """
        held = self._claim(shapes, busy_seconds)
        if held is not None or wait_seconds <= 0:
            return held
        may_be_one = self._queue.wait_for_work(fingerprint=self._fingerprint, timeout_seconds=wait_seconds)
        return self._claim(shapes, busy_seconds) if may_be_one else None

    def finish(self, held: HeldJob, outcome: Outcome, *, finding: Finding | None = None) -> Verdict:
        """Commit. Asks until Redis answers; raises QueueUnavailable when the shutdown's grace is over."""
        return self._settle(held, lambda: self._queue.finish(held.claim.lease, outcome, finding=finding), name="finish")

    def has_ended(self, held: HeldJob) -> bool:
        """Whether a finish() that raised took effect. Raises QueueUnavailable."""
        return self._queue.has_ended(held.claim.lease)

    def release(self, held: HeldJob) -> Verdict:
        """Hand back without costing an attempt."""
        return self._settle(held, lambda: self._queue.release(held.claim.lease), name="release")

    def retry(self, held: HeldJob, reason: str) -> Verdict:
        """Hand back after a failure; the queue fails the job once its attempts are used up."""
        return self._settle(held, lambda: self._queue.retry(held.claim.lease, reason), name="retry")

    def drop(self, held: HeldJob) -> None:
        """Forget a job that someone else owns now."""
        with self._lock:
            self._held = tuple(other for other in self._held if other is not held)

    def report(self) -> None:
        """Write new progress, and hear which jobs are still wanted. Raises QueueUnavailable."""
        for held in self._held:
            progress = held.progress
            if progress is not held.reported:
                self._hear(held, self._queue.report(held.claim.lease, progress, preview=held.take_preview()))
                held.reported = progress

    def keep(self) -> None:
        """Prolong the leases, unless the engine no longer moves. Raises QueueUnavailable."""
        if self._watch.is_stalled:
            return
        jobs = self._held
        for held, signal in zip(jobs, self._queue.renew([held.claim.lease for held in jobs]), strict=True):
            self._hear(held, signal)

    def reclaim(self) -> list[Reclaimed]:
        """Put jobs of silent workers back into the queue. Raises QueueUnavailable."""
        return self._queue.reclaim()

    def _claim(self, shapes: Collection[str], busy_seconds: float) -> HeldJob | None:
        claim = self._queue.claim(
            worker=self._worker,
            fingerprint=self._fingerprint,
            execution_id=self._next_execution_id,
            shapes=shapes,
            busy_seconds=busy_seconds,
        )
        # Only now: after a lost reply the same id asks for the same job again.
        self._next_execution_id = new_execution_id()
        if claim is None:
            return None
        held = HeldJob(claim)
        with self._lock:
            self._held = (*self._held, held)
        return held

    def _settle(self, held: HeldJob, ask: Callable[[], Verdict], *, name: str) -> Verdict:
        def may_go_on() -> bool:
            held.touch()
            return self._shutdown.seconds_left > LAST_SECONDS

        verdict = insist(ask, may_go_on=may_go_on, name=name)
        self.drop(held)
        return verdict

    def _hear(self, held: HeldJob, signal: Signal) -> None:
        if signal is not held.signal:
            held.signal = signal
            log.info("job_signal", job_id=held.id, signal=signal.value)
