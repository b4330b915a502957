"""What an operator does by hand: pause a priority, drain a worker, requeue or fail a job."""

import uuid
from typing import Literal, cast

from redis import Redis
from rq.utils import now, utcformat

from service.errors import Conflict, NotFound
from service.jobs.connection import redis_errors
from service.jobs.lua import load_script
from service.jobs.record import PRIORITIES, Priority, Wire

_PAUSED, _DRAINING = "wanserve:paused", "wanserve:draining"


SHOWN = (
    "status", "ended_as", "origin", "tenant", "shape", "cost", "worker_name", "phase", "stage", "step", "num_steps",
    "checkpoint_step", "number_of_retries", "retries_left", "story",
)  # fmt: skip
"""Fields of a job that an operator is shown."""


class Lane(Wire):
    """Jobs of one priority and checkpoint that wait."""

    priority: Priority
    fingerprint: str
    num_jobs: int
    gpu_seconds: float
    oldest_seconds: float | None
    """How long the oldest waits."""

    is_paused: bool


class Operations:
    """Every method raises QueueUnavailable without Redis, and may be called again."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._operate = load_script(redis, "operate")
        self._lanes = load_script(redis, "lanes")

    @redis_errors()
    def pause(self, priority: Priority) -> None:
        """Workers claim no more jobs of it; those that run go on, new ones wait."""
        self._redis.sadd(_PAUSED, priority)

    @redis_errors()
    def resume(self, priority: Priority) -> None:
        self._redis.srem(_PAUSED, priority)

    @redis_errors()
    def paused(self) -> tuple[Priority, ...]:
        found = cast(set[str], self._redis.smembers(_PAUSED))
        return tuple(priority for priority in PRIORITIES if priority in found)

    @redis_errors()
    def lanes(self) -> tuple[Lane, ...]:
        """What waits, by priority and checkpoint, the most urgent first; of an idle priority one empty lane."""
        found = [Lane.model_validate(dict(zip(Lane.model_fields, fields, strict=True))) for fields in self._lanes()]
        return tuple(sorted(found, key=lambda lane: PRIORITIES.index(lane.priority)))

    @redis_errors()
    def job(self, job_id: str) -> dict[str, str]:
        """What a job's own record says, by field, without its prompt. Raises NotFound."""
        found = cast(list[str | None], self._redis.hmget(f"rq:job:{job_id}", SHOWN))
        if found[0] is None:
            raise NotFound(f"There is no job {job_id}.")
        return {name: value for name, value in zip(SHOWN, found, strict=True) if value}

    @redis_errors()
    def drain(self, worker: str) -> None:
        """The worker finishes what it holds and claims nothing more; stop it when it holds nothing."""
        self._redis.sadd(_DRAINING, worker)

    @redis_errors()
    def undrain(self, worker: str) -> None:
        self._redis.srem(_DRAINING, worker)

    @redis_errors()
    def draining(self) -> tuple[str, ...]:
        return tuple(sorted(cast(set[str], self._redis.smembers(_DRAINING))))

    def requeue(self, job_id: str) -> None:
        """Take a running job from its worker, without costing an attempt; it goes on at its last saved state.

        Raises NotFound, and Conflict when it does not run.
        """
        self._do("requeue", job_id, reason="")

    def fail(self, job_id: str, *, reason: str) -> None:
        """End a job that waits or runs, and every video that follows it, with the code failed_by_operator.

        Raises NotFound, and Conflict when it has ended.
        """
        self._do("fail", job_id, reason=reason)

    @redis_errors()
    def _do(self, action: Literal["requeue", "fail"], job_id: str, *, reason: str) -> None:
        # The client may send it again: the second time must answer as the first.
        call_id = uuid.uuid4().hex
        match self._operate(args=[action, job_id, utcformat(now()), reason, call_id]):
            case "done":
                return
            case "waiting":
                raise Conflict(f"{job_id} waits already.")
            case "ended":
                raise Conflict(f"{job_id} has ended, or is being cancelled: submit its video again.")
            case _:
                raise NotFound(f"There is no job {job_id}.")
