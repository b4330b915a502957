"""How often a key may ask, over all gateways together."""

import math

from redis import Redis

from service.errors import TooManyRequests
from service.jobs.connection import redis_errors
from service.jobs.lua import load_script


class Rates:
    """Takes a client from connection.connect(), which the caller closes."""

    def __init__(self, redis: Redis) -> None:
        self._take = load_script(redis, "rate")

    @redis_errors()
    def take(self, key_id: str, *, per_minute: int) -> None:
        """One request; a minute's may come at once, then they must come evenly. Raises TooManyRequests."""
        wait = float(self._take(args=[key_id, per_minute]))
        if wait > 0:
            raise TooManyRequests(
                f"This API key may ask {per_minute} times a minute.", retry_after_seconds=math.ceil(wait)
            )
