"""Objects in storage that no record names: kept in Redis until somebody has removed them."""

from collections.abc import Sequence
from typing import cast

from redis import Redis

from service.jobs.connection import redis_errors
from service.jobs.lua import load_script

UPLOAD_SECONDS = 3600.0
"""No upload takes longer: after it, an announced object that no record came to name was left by a dead process."""


class Garbage:
    """Every method raises QueueUnavailable without Redis, and may be called again."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._announce = load_script(redis, "announce")
        self._due = load_script(redis, "garbage")

    @redis_errors()
    def announce(self, *keys: str, seconds: float = UPLOAD_SECONDS) -> None:
        """Before an upload: should this process die before a record names the objects, they are removed by then."""
        self._announce(args=[seconds, *keys])

    @redis_errors()
    def due(self, *, limit: int = 100) -> list[str]:
        """Keys of objects to remove now."""
        return cast(list[str], self._due(args=[limit]))

    @redis_errors()
    def forget(self, keys: Sequence[str]) -> None:
        """After they were removed."""
        if keys:
            self._redis.zrem("wanserve:garbage", *keys)
