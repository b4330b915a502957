"""How much the result cache keeps."""

from typing import cast

from redis import Redis

from service.jobs.connection import redis_errors
from service.jobs.record import Wire


class CacheUse(Wire):
    num_entries: int
    num_bytes: int
    """Of the files that they name."""


@redis_errors()
def cache_use(redis: Redis) -> CacheUse:
    """Raises QueueUnavailable."""
    with redis.pipeline(transaction=False) as pipeline:
        pipeline.zcard("wanserve:cache-used")
        pipeline.get("wanserve:cache-bytes")
        num_entries, num_bytes = cast("tuple[int, str | None]", pipeline.execute())
    return CacheUse(num_entries=num_entries, num_bytes=int(num_bytes or 0))
