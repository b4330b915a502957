"""One subscription to Redis' progress channel, shared by every open event stream of this process.

A wake-up says "look again", nothing more: streams read the record, so that a lost message costs a moment, not the
truth.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import ValidationError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.jobs.execution import ProgressMessage
from service.jobs.store import PROGRESS_CHANNEL
from service.logs import get_logger

RECONNECT_SECONDS = 1.0

log = get_logger(__name__)


class Fanout:
    """Owns its connection: run() opens and closes it."""

    def __init__(self, redis_url: str) -> None:
        self._redis_url = redis_url
        self._bells: dict[str, set[asyncio.Event]] = defaultdict(set)
        self.is_closing = False
        """True once the process shuts down: streams end then."""

    async def run(self) -> None:
        """Listen until cancelled; after an outage begin again and wake every stream."""
        while True:
            try:
                await self._listen()
            except (RedisError, OSError) as e:
                log.warning("progress_channel_lost", error=str(e))
                await asyncio.sleep(RECONNECT_SECONDS)

    @contextmanager
    def bell(self, *names: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever something changed under one of the names: video or job ids."""
        bell = asyncio.Event()
        for name in names:
            self._bells[name].add(bell)
        try:
            yield bell
        finally:
            for name in names:
                self._bells[name].discard(bell)
                if not self._bells[name]:
                    del self._bells[name]

    def close(self) -> None:
        """Let every stream end."""
        self.is_closing = True
        self._ring_all()

    async def _listen(self) -> None:
        # Bytes: a foreign message need not be text.
        async with Redis.from_url(self._redis_url) as redis, redis.pubsub() as channel:
            await channel.subscribe(PROGRESS_CHANNEL)
            self._ring_all()
            async for message in channel.listen():
                if message["type"] == "message":
                    self._hear(message["data"])

    def _hear(self, text: bytes) -> None:
        """A message of another version, or of a stranger, is skipped: streams look again by themselves."""
        try:
            message = ProgressMessage.model_validate_json(text)
        except ValidationError as e:
            log.warning("progress_message_skipped", num_bytes=len(text), num_errors=e.error_count())
            return
        self._ring(message)

    def _ring(self, message: ProgressMessage) -> None:
        for name in (message.job_id, message.video_id):
            for bell in self._bells.get(name or "", ()):
                bell.set()

    def _ring_all(self) -> None:
        for bells in self._bells.values():
            for bell in bells:
                bell.set()
