"""A feeder that is killed between any two of its steps: nothing is submitted twice, nothing is lost."""

from collections.abc import Callable, Iterator
from typing import IO, Any

import pytest
from redis import Redis

from service.batches.batch import Batch, BatchStatus
from service.jobs.card import ModelCard
from service.settings import Settings
from service.storage import S3Storage, StoredObject
from tests.service.batches.conftest import Ended, Yard, line

LINES = (line("a"), "{", line("a"), line("b"))
LEFT = Ended(output=["a", "b"], errors=[(None, "invalid_request"), ("a", "invalid_request")])


class Killed(BaseException):
    """No handler of errors sees it, as none sees SIGKILL."""


class Fuse:
    """Kills at the nth step."""

    def __init__(self) -> None:
        self.steps_left: float = float("inf")

    def burn(self) -> None:
        self.steps_left -= 1
        if self.steps_left < 0:
            raise Killed


class MortalRedis(Redis):
    """Dies before a command is sent, or after it was done and before its answer was seen."""

    fuse: Fuse

    def execute_command(self, *args: Any, **options: Any) -> Any:
        self.fuse.burn()
        answer = super().execute_command(*args, **options)
        self.fuse.burn()
        return answer


class MortalStorage(S3Storage):
    fuse: Fuse

    def read(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        self.fuse.burn()
        return super().read(key, start=start, end=end)

    def put_stream(self, key: str, content: IO[bytes], *, content_type: str) -> StoredObject:
        self.fuse.burn()
        stored = super().put_stream(key, content, content_type=content_type)
        self.fuse.burn()
        return stored


@pytest.fixture
def fuse() -> Fuse:
    return Fuse()


@pytest.fixture
def mortal(yard: Yard, redis_url: str, settings: Settings, card: ModelCard, fuse: Fuse) -> Iterator[Yard]:
    """As yard, on clients that die. Depends on yard so that Redis is empty and the bucket is there."""
    storage = MortalStorage(settings)
    storage.fuse = fuse
    with MortalRedis.from_url(redis_url, decode_responses=True) as redis:
        redis.fuse = fuse
        yield Yard(redis, storage, settings, card)
    storage.close()


def is_killed_at(step: int, mortal: Yard, yard: Yard, fuse: Fuse, batch_id: str) -> bool:
    """Feed the batch with a feeder that dies at that step. False when it came to the end."""
    fuse.steps_left = step
    try:
        while batch_id in yard.batches.active():
            mortal.feeder.feed()
            yard.work()
    except Killed:
        return True
    finally:
        fuse.steps_left = float("inf")
    return False


def test_whatever_step_it_dies_at_every_request_is_submitted_once(
    yard: Yard, mortal: Yard, fuse: Fuse, redis: Redis, left_by: Callable[[Batch], Ended]
) -> None:
    step, was_killed = 0, True
    while was_killed:
        redis.flushdb()
        batch_id = yard.create(*LINES)
        was_killed = is_killed_at(step, mortal, yard, fuse, batch_id)
        batch = yard.run_to_end(batch_id)

        assert left_by(batch) == LEFT, step
        assert (batch.status, batch.completed, batch.failed) == (BatchStatus.COMPLETED, 2, 2), step
        assert len(redis.keys("rq:job:job_*")) == 2, step
        assert len(redis.xrange("wanserve:outbox")) == 2, step
        assert not named_files(redis) & set(redis.zrange("wanserve:garbage", 0, -1)), step
        step += 1

    assert step > 60


@pytest.mark.parametrize("status", [BatchStatus.CANCELLED, BatchStatus.EXPIRED])
def test_whatever_step_it_dies_at_a_batch_that_is_given_up_leaves_nothing_in_the_queue(
    yard: Yard, mortal: Yard, fuse: Fuse, redis: Redis, left_by: Callable[[Batch], Ended], status: BatchStatus
) -> None:
    step, was_killed = 0, True
    while was_killed:
        redis.flushdb()
        batch_id = yard.create(*LINES)
        yard.feeder_of(yard.submit, max_at_work=0).feed()
        was_killed = is_killed_in_a_turn(step, mortal, fuse)
        give_up(yard, redis, batch_id, status)
        was_killed |= is_killed_in_a_turn(step, mortal, fuse)
        yard.feeder.feed()
        batch = yard.get(batch_id)

        assert batch.status is status, step
        assert yard.queue.depth() == 0, step
        left = left_by(batch)
        assert len(left.output) + len(left.errors) == 4, step
        assert batch.completed + batch.failed == 4, step
        assert all(job in ("finished", "canceled") for job in statuses(redis)), step
        step += 1

    assert step > 20


def is_killed_in_a_turn(step: int, mortal: Yard, fuse: Fuse) -> bool:
    fuse.steps_left = step
    try:
        mortal.feeder.feed()
    except Killed:
        return True
    finally:
        fuse.steps_left = float("inf")
    return False


def give_up(yard: Yard, redis: Redis, batch_id: str, status: BatchStatus) -> None:
    if status is BatchStatus.CANCELLED:
        yard.batches.cancel(batch_id, tenant="default")
    else:
        redis.hset(f"wanserve:batch:{batch_id}", "expires_at", 1)


def named_files(redis: Redis) -> set[str]:
    ids = redis.zrange("wanserve:tenant:default:files", 0, -1)
    return {str(redis.hget(f"wanserve:file:{file_id}", "object_key")) for file_id in ids}


def statuses(redis: Redis) -> list[str]:
    return [str(redis.hget(key, "status")) for key in redis.keys("rq:job:job_*")]
