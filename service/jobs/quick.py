"""The two questions that nearly every request asks, on the event loop: to change threads costs more than either.

The same scripts as JobQueue's and VideoStore's, and the same answers. What is rare is left to those.
"""

import asyncio

from redis.asyncio import Redis

from service.jobs.connection import redis_errors
from service.jobs.fleet import NO_FLEET, Fleet
from service.jobs.lua import load_async_script
from service.jobs.queue import JobQueue
from service.jobs.record import VideoRecord
from service.jobs.store import VideoStore, record_of
from service.jobs.submission import Submission, SubmitKind, Submitted
from service.jobs.submit import submitted


class QuickQueue:
    """Takes a client from connection.connect_async(), which the caller closes. For one event loop."""

    def __init__(self, redis: Redis, queue: JobQueue, store: VideoStore) -> None:
        self._queue = queue
        self._store = store
        self._submit = load_async_script(redis, "submit")
        self._look = load_async_script(redis, "look")

    async def submit(self, submission: Submission, *, fleet: Fleet) -> Submitted | None:
        """As JobQueue.submit(), but None, and nothing done, where Redis must first be asked how full it is."""
        is_memory_short = self._queue.is_memory_short()
        if is_memory_short is None:
            return None
        words = self._queue.submitter.words_of(submission, fleet=fleet, is_memory_short=is_memory_short)
        with redis_errors():
            kind, answer, more = await self._submit(words)
        if kind in list(SubmitKind):
            return submitted(kind, answer, more, submission)
        # When to come again is asked of Redis.
        return await asyncio.to_thread(self._outcome, submission, kind, answer, more)

    @redis_errors()
    def _outcome(self, submission: Submission, kind: str, answer: str, more: str) -> Submitted:
        return self._queue.submitter.outcome(submission, kind, answer, more)

    async def look(self, video_id: str, *, tenant: str) -> tuple[VideoRecord, Fleet | None]:
        """As VideoStore.look()."""
        last = self._store.last_fleet
        with redis_errors():
            answer, changed = await self._look([video_id, NO_FLEET if last is None else last.digest])
        # Workers that went are struck off: that asks Redis.
        fleet = last if changed is None else await asyncio.to_thread(self._store.learn, changed)
        return record_of(video_id, answer, tenant=tenant), fleet
