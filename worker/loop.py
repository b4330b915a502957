"""The worker's main thread: takes jobs and advances them, step by step, until a shutdown is requested."""

import time
from collections.abc import Callable

from service.errors import Unavailable
from worker.finishing import FinishingPool
from worker.heartbeat import Heartbeat
from worker.held import HeldJob
from worker.inbox import Inbox
from worker.room import Room
from worker.runner import JobRunner
from worker.shutdown import Shutdown

WAIT_SECONDS = 1.0
"""A job wakes the wait at once; its length only bounds how late a request to stop is seen."""

OUTAGE_PAUSE_SECONDS = 0.5
OUTAGE_DETOUR_SECONDS = 5.0
"""So long a busy worker does not ask for more jobs after Redis failed: every question holds up those in flight."""

FULL_DISK_PAUSE_SECONDS = 1.0


class Worker:
    """The heartbeat lives as long as run() does."""

    def __init__(
        self,
        inbox: Inbox,
        runner: JobRunner,
        finishing: FinishingPool,
        heartbeat: Heartbeat,
        room: Room,
        *,
        shutdown: Shutdown,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inbox = inbox
        self._runner = runner
        self._finishing = finishing
        self._heartbeat = heartbeat
        self._room = room
        self._shutdown = shutdown
        self._clock = clock
        self._ask_from = 0.0

    def run(self) -> None:
        """Raises DeviceLost."""
        self._heartbeat.start()
        try:
            while not self._shutdown.is_requested or self._runner.is_busy:
                self._take_jobs()
                self._runner.advance()
        finally:
            # Also where the device was lost: a store that does not answer must not keep the process.
            self._shutdown.request()
            self._finishing.close()
            self._heartbeat.stop()

    def _take_jobs(self) -> None:
        """As many as are of use; an idle worker takes one, so that others that are idle get theirs before it steps."""
        was_stepping = self._runner.is_stepping
        while not self._shutdown.is_requested and self._runner.has_room:
            held = self._next_job()
            if held is None:
                return
            self._runner.take(held)
            if not was_stepping:
                return

    def _next_job(self) -> HeldJob | None:
        """An idle worker waits for it a while, a busy one does not."""
        is_stepping = self._runner.is_stepping
        if is_stepping and self._clock() < self._ask_from:
            return None
        if not self._room.is_enough():
            self._pause(FULL_DISK_PAUSE_SECONDS, is_stepping=is_stepping)
            return None
        try:
            wait_seconds = 0 if is_stepping else WAIT_SECONDS
            return self._inbox.next_job(
                wait_seconds=wait_seconds, shapes=self._runner.shapes, busy_seconds=self._runner.busy_seconds
            )
        except Unavailable:
            # The heartbeat logs the outage.
            self._ask_from = self._clock() + OUTAGE_DETOUR_SECONDS
            self._pause(OUTAGE_PAUSE_SECONDS, is_stepping=is_stepping)
            return None

    def _pause(self, seconds: float, *, is_stepping: bool) -> None:
        if not is_stepping:
            self._shutdown.sleep(seconds)
