"""The worker's main thread: one job after another until a shutdown is requested."""

from service.errors import Unavailable
from worker.heartbeat import Heartbeat
from worker.held import HeldJob
from worker.inbox import Inbox
from worker.room import Room
from worker.runner import JobRunner
from worker.shutdown import Shutdown

WAIT_SECONDS = 1.0
"""A job wakes the wait at once; its length only bounds how late a request to stop is seen."""

OUTAGE_PAUSE_SECONDS = 0.5
FULL_DISK_PAUSE_SECONDS = 1.0


class Worker:
    """The heartbeat lives as long as run() does."""

    def __init__(
        self, inbox: Inbox, runner: JobRunner, heartbeat: Heartbeat, room: Room, *, shutdown: Shutdown
    ) -> None:
        self._inbox = inbox
        self._runner = runner
        self._heartbeat = heartbeat
        self._room = room
        self._shutdown = shutdown

    def run(self) -> None:
        """Raises DeviceLost."""
        self._heartbeat.start()
        try:
            while not self._shutdown.is_requested:
                held = self._next_job()
                if held is not None:
                    self._runner.run(held)
        finally:
            self._heartbeat.stop()

    def _next_job(self) -> HeldJob | None:
        if not self._room.is_enough():
            self._shutdown.sleep(FULL_DISK_PAUSE_SECONDS)
            return None
        try:
            return self._inbox.next_job(wait_seconds=WAIT_SECONDS)
        except Unavailable:
            # The heartbeat logs the outage.
            self._shutdown.sleep(OUTAGE_PAUSE_SECONDS)
            return None
