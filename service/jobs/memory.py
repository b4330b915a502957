"""How full Redis' memory is."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from redis import Redis

from service.jobs.connection import redis_errors

MAX_USED = 0.8
"""Of maxmemory. The rest is for the ends of jobs that were accepted, and for workers to be seen."""

LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class MemoryUse:
    used_bytes: int
    limit_bytes: int
    """maxmemory; 0: none is set."""


@redis_errors()
def memory_use(redis: Redis) -> MemoryUse:
    """Raises QueueUnavailable."""
    memory = redis.info("memory")
    return MemoryUse(used_bytes=int(memory["used_memory"]), limit_bytes=int(memory["maxmemory"]))


class MemoryGauge:
    """Asks Redis at most once a second."""

    def __init__(self, redis: Redis, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis = redis
        self._clock = clock
        self._next_look_at = -float("inf")
        self._is_short = False

    def last_answer(self) -> bool | None:
        """Of is_short(), without asking; None where that would ask now."""
        return self._is_short if self._clock() < self._next_look_at else None

    def is_short(self) -> bool:
        """Whether new work should be refused; never without a maxmemory."""
        if self._clock() >= self._next_look_at:
            memory = self._redis.info("memory")
            self._is_short = 0 < memory["maxmemory"] * MAX_USED <= memory["used_memory"]
            self._next_look_at = self._clock() + LOOK_SECONDS
        return self._is_short
