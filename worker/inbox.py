"""The job that this worker holds: taking it, keeping it, giving it back. Knows no engine and no storage."""

from collections.abc import Callable

from service.jobs.queue import JobQueue
from service.jobs.record import Outcome, Reclaimed, Signal, Verdict, new_execution_id
from service.logs import get_logger
from worker.held import HeldJob
from worker.patience import insist
from worker.shutdown import Shutdown
from worker.stall import StallWatch

LAST_SECONDS = 1.0
"""Of a shutdown's grace: kept for what follows when Redis never took an outcome."""

log = get_logger(__name__)


class Inbox:
    """The loop takes and ends jobs; report(), keep() and reclaim() belong to the heartbeat's thread.

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
        self._held: HeldJob | None = None

    @property
    def held(self) -> HeldJob | None:
        return self._held

    def next_job(self, *, wait_seconds: float) -> HeldJob | None:
        """Claim the next job; wait for one so long, else None. Raises QueueUnavailable."""
        held = self._claim()
        if held is None and self._queue.wait_for_work(fingerprint=self._fingerprint, timeout_seconds=wait_seconds):
            held = self._claim()
        return held

    def finish(self, held: HeldJob, outcome: Outcome) -> Verdict:
        """Commit. Asks until Redis answers; raises QueueUnavailable when the shutdown's grace is over."""
        return self._settle(held, lambda: self._queue.finish(held.claim.lease, outcome), name="finish")

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
        if self._held is held:
            self._held = None

    def report(self) -> None:
        """Write new progress, and hear whether the job is still wanted. Raises QueueUnavailable."""
        held = self._held
        if held is None or held.progress is held.reported:
            return
        progress = held.progress
        self._hear(held, self._queue.report(held.claim.lease, progress))
        held.reported = progress

    def keep(self) -> None:
        """Prolong the lease, unless the engine no longer moves. Raises QueueUnavailable."""
        held = self._held
        if held is None or self._watch.is_stalled:
            return
        [signal] = self._queue.renew([held.claim.lease])
        self._hear(held, signal)

    def reclaim(self) -> list[Reclaimed]:
        """Put jobs of silent workers back into the queue. Raises QueueUnavailable."""
        return self._queue.reclaim()

    def _claim(self) -> HeldJob | None:
        claim = self._queue.claim(
            worker=self._worker, fingerprint=self._fingerprint, execution_id=self._next_execution_id
        )
        # Only now: after a lost reply the same id asks for the same job again.
        self._next_execution_id = new_execution_id()
        self._held = None if claim is None else HeldJob(claim)
        return self._held

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
