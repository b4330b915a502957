"""What tenants used, by day (UTC): videos and GPU seconds. Written by SUBMIT and FINISH, read here."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from redis import Redis

from service.jobs.connection import redis_errors

MAX_DAYS = 400
"""A day is forgotten after so many."""

EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class DayUsage:
    """Of one tenant."""

    day: date
    queued: int
    """Videos that a job was made for."""

    joined: int
    """Videos that followed an equal job of somebody else."""

    cached: int
    """Videos that were answered at once."""

    gpu_seconds: float
    """Of jobs that have ended; of those that were not completed as far as they came."""

    reserved_gpu_seconds: float
    """Estimated, of jobs that wait or run. They are settled on the day of their submission."""

    @property
    def total_gpu_seconds(self) -> float:
        """What counts against the day's budget."""
        return self.gpu_seconds + self.reserved_gpu_seconds


class Usage:
    """Takes a client from connection.connect(), which the caller closes."""

    def __init__(self, redis: Redis, *, clock: Callable[[], float] = time.time) -> None:
        self._redis = redis
        self._clock = clock

    @redis_errors()
    def days(self, tenant: str, *, num_days: int) -> tuple[DayUsage, ...]:
        """The last ones, today first. Raises QueueUnavailable."""
        today = datetime.fromtimestamp(self._clock(), UTC).date()
        days = [today - timedelta(days=before) for before in range(num_days)]
        with self._redis.pipeline(transaction=False) as pipeline:
            for day in days:
                pipeline.hgetall(f"wanserve:usage:{tenant}:{(day - EPOCH).days}")
            answers: list[dict[str, str]] = pipeline.execute()
        return tuple(map(_usage, days, answers))

    @redis_errors()
    def budgets_used(self, daily_gpu_seconds: Mapping[str, float]) -> dict[str, float]:
        """Of today's budgets, by tenant: 1 is all of it. Raises QueueUnavailable."""
        today = (datetime.fromtimestamp(self._clock(), UTC).date() - EPOCH).days
        with self._redis.pipeline(transaction=False) as pipeline:
            for tenant in daily_gpu_seconds:
                pipeline.hmget(f"wanserve:usage:{tenant}:{today}", "spent_ms", "reserved_ms")
            answers: list[list[str | None]] = pipeline.execute()
        return {
            tenant: sum(int(part or 0) for part in parts) / 1000 / budget if budget else 1.0
            for (tenant, budget), parts in zip(daily_gpu_seconds.items(), answers, strict=True)
        }


def _usage(day: date, fields: dict[str, str]) -> DayUsage:
    def number(name: str) -> int:
        return int(fields.get(name, 0))

    return DayUsage(
        day=day,
        queued=number("queued"),
        joined=number("joined"),
        cached=number("cached"),
        gpu_seconds=number("spent_ms") / 1000,
        reserved_gpu_seconds=number("reserved_ms") / 1000,
    )
