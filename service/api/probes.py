"""What /ready and /health tell: asked with little patience, on threads of their own.

While a store hangs, every thread of the handlers may wait for it; a probe must answer all the same.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass

from service.errors import ServiceError
from service.jobs.connection import connect_briefly
from service.jobs.queue import JobQueue
from service.jobs.record import WorkerInfo
from service.jobs.store import VideoStore
from service.settings import Settings
from service.storage import Storage, open_storage

FRESH_SECONDS = 1.0
"""Probes within it share one look."""


@dataclass(frozen=True, slots=True)
class QueueState:
    """What Redis says."""

    workers: tuple[WorkerInfo, ...]
    """With a warm model."""

    depth: int
    num_running: int


@dataclass(frozen=True, slots=True)
class Findings:
    """One look at both stores."""

    outages: tuple[str, ...]
    """What does not answer, a sentence each."""

    queue: QueueState | None
    """None when Redis does not answer."""


class Probes:
    """Takes impatient clients and two threads, which the caller closes."""

    def __init__(
        self,
        store: VideoStore,
        queue: JobQueue,
        storage: Storage,
        *,
        threads: Executor,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._queue = queue
        self._storage = storage
        self._threads = threads
        self._clock = clock
        self._lock = asyncio.Lock()
        self._found: Findings | None = None
        self._found_at = 0.0

    async def look(self) -> Findings:
        """Both stores, at most FRESH_SECONDS ago. Takes some seconds at most."""
        async with self._lock:
            if self._found is None or self._clock() - self._found_at > FRESH_SECONDS:
                self._found = await self._ask()
                self._found_at = self._clock()
            return self._found

    async def _ask(self) -> Findings:
        loop = asyncio.get_running_loop()
        # Both begin before either is awaited.
        redis = loop.run_in_executor(self._threads, self._ask_redis)
        storage = loop.run_in_executor(self._threads, self._storage.check)
        outages, queue = [], None
        try:
            queue = await redis
        except ServiceError as e:
            outages.append(e.message)
        try:
            await storage
        except ServiceError as e:
            outages.append(e.message)
        return Findings(outages=tuple(outages), queue=queue)

    def _ask_redis(self) -> QueueState:
        return QueueState(
            workers=self._store.live_workers(), depth=self._queue.depth(), num_running=self._queue.num_running()
        )


@contextmanager
def open_probes(settings: Settings, redis_url: str) -> Iterator[Probes]:
    """Probes with connections of their own, for as long as the block runs."""
    with (
        connect_briefly(redis_url) as redis,
        closing(open_storage(settings, is_patient=False)) as storage,
        ThreadPoolExecutor(2, thread_name_prefix="probe") as threads,
    ):
        yield Probes(VideoStore(redis), JobQueue(redis, settings), storage, threads=threads)
