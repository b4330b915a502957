"""The worker's second thread: progress, leases, presence, lost jobs of others. Its death ends the process."""

import os
import threading

from service.errors import Unavailable
from service.jobs.link import Link
from service.logs import get_logger
from service.metrics import WorkerMetrics
from worker.inbox import Inbox
from worker.presence import Presence
from worker.shutdown import Shutdown
from worker.stall import StallWatch

EXIT_BROKEN = 70
"""sysexits' "internal software error": start this worker anew."""

log = get_logger(__name__)


class Heartbeat:
    """Reports every second, or at the heartbeat's pace if that is faster; renews every heartbeat_seconds."""

    def __init__(
        self,
        inbox: Inbox,
        presence: Presence,
        *,
        shutdown: Shutdown,
        link: Link,
        watch: StallWatch,
        metrics: WorkerMetrics,
        heartbeat_seconds: float,
        lease_seconds: float,
        stall_seconds: float,
    ) -> None:
        self._inbox = inbox
        self._presence = presence
        self._shutdown = shutdown
        self._link = link
        self._watch = watch
        self._metrics = metrics
        self._tick_seconds = min(1.0, heartbeat_seconds)
        self._ticks_a_beat = max(1, round(heartbeat_seconds / self._tick_seconds))
        self._give_up_seconds = stall_seconds + lease_seconds
        self._num_ticks = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when the thread has ended; it ends after at most one tick."""
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._is_over.wait(self._tick_seconds):
                self._tick()
        except BaseException:
            # Without renewal the job would run twice: better no worker than one that can't keep its leases.
            log.critical("heartbeat_died", exc_info=True)
            os._exit(EXIT_BROKEN)

    def _tick(self) -> None:
        self._end_if_overdue()
        self._look_for_stall()
        try:
            self._inbox.report()
            if self._num_ticks % self._ticks_a_beat == 0:
                self._beat()
        except Unavailable as e:
            if self._link.failed():
                log.warning("queue_unavailable", reason=e.message)
        else:
            self._num_ticks += 1

    def _beat(self) -> None:
        self._inbox.keep()
        self._presence.show(is_busy=bool(self._inbox.held))
        if self._link.answered():
            log.info("queue_back")
        if self._link.may_reclaim:
            self._reclaim()

    def _reclaim(self) -> None:
        for job in self._inbox.reclaim():
            self._metrics.reclaimed.labels(job.action).inc()
            log.warning("job_reclaimed", job_id=job.job_id, worker_lost=job.worker, action=job.action)

    def _look_for_stall(self) -> None:
        was_stalled = self._watch.is_stalled
        self._watch.look(self._inbox.held, seconds=self._tick_seconds)
        if self._watch.is_stalled and not was_stalled:
            log.error("engine_stalled", still_seconds=self._watch.still_seconds)
        if self._watch.still_seconds > self._give_up_seconds:
            # The lease is gone by now and the thread that works on the job can't be ended otherwise.
            log.critical("engine_hung")
            os._exit(EXIT_BROKEN)

    def _end_if_overdue(self) -> None:
        """A single step may take longer than the whole grace time: hand its jobs back from here."""
        if self._shutdown.seconds_left > 0:
            return
        try:
            for held in self._inbox.held:
                self._inbox.release(held)
            self._presence.leave()
        except Unavailable as e:
            log.warning("handed_nothing_back", reason=e.message)
        log.info("worker_ended_at_deadline")
        os._exit(0)
