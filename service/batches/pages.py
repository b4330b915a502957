"""Pages of a tenant's list, a zset of ids by creation time."""

from collections.abc import Sequence
from typing import Literal, cast

from redis import Redis

from service.errors import InvalidRequest

Order = Literal["asc", "desc"]


def page_of(
    redis: Redis, key: str, *, kind: str, after: str | None, limit: int, order: Order
) -> tuple[Sequence[str], bool]:
    """Ids behind after, and whether there are more.

    Raises InvalidRequest for an after that neither is there nor was within the last hour.
    """
    first, last = ("-inf", "+inf") if order == "asc" else ("+inf", "-inf")
    if after is not None:
        first = f"({_place_of(redis, key, after, kind)!r}"
    ids = cast(
        Sequence[str],
        redis.zrange(key, first, last, desc=order == "desc", byscore=True, offset=0, num=limit + 1),
    )
    return ids[:limit], len(ids) > limit


def _place_of(redis: Redis, key: str, after: str, kind: str) -> float:
    score = redis.zscore(key, after) or redis.get(f"{key}:gone:{after}")
    if score is None:
        raise InvalidRequest(f"after: there is no {kind} {after}.", param="after")
    return float(cast(str, score))
