"""Which asset a watermark's number stands for. Numbers are 32 bits: too few to be drawn without asking."""

import hmac
import itertools
from collections.abc import Sequence
from typing import cast

from redis import Redis

from service.jobs.connection import redis_errors

BUCKETS = 1 << 14
"""Small hashes take a fraction of the memory of as many keys."""


MOST_ATTEMPTS = 4
"""Looked at when a number is freed: with 10 million assets one in 10**10 took more."""


class WatermarkIds:
    """Every method raises QueueUnavailable without Redis, and may be called again."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    @redis_errors()
    def take(self, asset_id: str, *, key: bytes) -> int:
        """The asset's own number, always the same one: a keyed hash, or the next where another asset has that."""
        for attempt in itertools.count():
            number = _number(asset_id, attempt, key=key)
            if self._redis.hsetnx(_bucket(number), str(number), asset_id) or self._asset_id(number) == asset_id:
                return number
        raise AssertionError

    @redis_errors()
    def asset_of(self, number: int) -> str | None:
        """Whose number it is. It stays with the asset after all its files are gone."""
        return self._asset_id(number)

    @redis_errors()
    def put(self, number: int, asset_id: str) -> None:
        """As it was before Redis was lost; a number that is taken stays whose it is."""
        self._redis.hsetnx(_bucket(number), str(number), asset_id)

    @redis_errors()
    def forget(self, asset_id: str, *, keys: Sequence[bytes]) -> None:
        """Free what an asset took under any of the keys: nobody must be able to trace it any more."""
        for key, attempt in itertools.product(keys, range(MOST_ATTEMPTS)):
            number = _number(asset_id, attempt, key=key)
            if self._asset_id(number) == asset_id:
                self._redis.hdel(_bucket(number), str(number))
                break

    def _asset_id(self, number: int) -> str | None:
        return cast(str | None, self._redis.hget(_bucket(number), str(number)))


def _number(asset_id: str, attempt: int, *, key: bytes) -> int:
    return int.from_bytes(hmac.digest(key, f"{asset_id}/{attempt}".encode(), "sha256")[:4], "big")


def _bucket(number: int) -> str:
    return f"wanserve:watermarks:{number % BUCKETS}"
