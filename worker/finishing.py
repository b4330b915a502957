"""Finishing beside the engine: encode, upload and commit on threads of their own, a few videos at a time."""

import concurrent.futures
from concurrent.futures import Future, ThreadPoolExecutor

from model.frames import Frames
from worker.endings import Endings
from worker.held import HeldJob

NUM_PLACES = 2
"""One is encoded while another is uploaded; more would only hold frames in memory."""


class FinishingPool:
    """Belongs to the engine's thread. A job is in it until it has ended, and is held so long like any other.

    Full, it makes the engine keep denoised jobs back: a store that does not answer must not fill the memory.
    """

    def __init__(self, endings: Endings, *, num_places: int = NUM_PLACES) -> None:
        self._endings = endings
        self._num_places = num_places
        self._threads = ThreadPoolExecutor(num_places, thread_name_prefix="finishing")
        self._running: set[Future[None]] = set()

    @property
    def is_busy(self) -> bool:
        self._forget_ended()
        return bool(self._running)

    @property
    def has_room(self) -> bool:
        return self.num_free > 0

    @property
    def num_free(self) -> int:
        """Places for jobs."""
        self._forget_ended()
        return self._num_places - len(self._running)

    @property
    def num_taken(self) -> int:
        """Jobs that are being finished."""
        return self._num_places - self.num_free

    def finish(self, held: HeldJob, frames: Frames, *, claimed_at: float) -> None:
        """Returns at once. Raises ValueError without room."""
        if not self.has_room:
            raise ValueError(f"{held.id} finds all {self._num_places} places taken: ask has_room first.")
        held.enter("encode", percent=96)
        self._running.add(self._threads.submit(self._finish, held, frames, claimed_at))

    def wait(self, *, seconds: float) -> None:
        """Until a job has ended, but no longer than that."""
        concurrent.futures.wait(self._running, seconds, concurrent.futures.FIRST_COMPLETED)

    def close(self) -> None:
        """Waits for all jobs."""
        self._threads.shutdown()
        self._forget_ended()

    def _finish(self, held: HeldJob, frames: Frames, claimed_at: float) -> None:
        try:
            self._endings.complete(held, frames, claimed_at=claimed_at)
        except Exception as e:  # noqa: BLE001  one job's bug must not end the worker; it is logged with its trace
            self._endings.fail(held, e)

    def _forget_ended(self) -> None:
        ended = {future for future in self._running if future.done()}
        self._running -= ended
        for future in ended:
            # What fail() did not expect either ends the worker.
            future.result()
