"""Chores: one gateway at a time does each, and an outage delays them."""

import threading
from collections.abc import Callable

import pytest
import structlog
from redis import Redis

from service.chores import Chore, ChoreRound, Chores
from service.errors import StorageUnavailable
from service.jobs.connection import connect

CHORE = "wanserve:chore:sweep"


def counting(done: list[str], name: str, *, every_seconds: float = 60.0) -> Chore:
    return Chore("sweep", every_seconds=every_seconds, do=lambda: done.append(name))


def test_of_many_gateways_one_does_it_in_each_interval(redis: Redis) -> None:
    done: list[str] = []
    rounds = [ChoreRound(redis, counting(done, str(number))) for number in range(4)]

    for each in rounds * 2:
        each.run()

    assert done == ["0"]
    redis.delete(CHORE)
    assert rounds[3].run()
    assert done == ["0", "3"]


def test_the_next_is_due_an_interval_after_the_last_began(redis: Redis) -> None:
    ticks = iter([100.0, 120.0])
    ChoreRound(redis, counting([], "a", every_seconds=50), clock=lambda: next(ticks)).run()

    assert redis.pttl(CHORE) == pytest.approx(30_000, abs=1000)


def test_while_one_gateway_is_at_it_no_other_begins(redis: Redis) -> None:
    began, may_end = threading.Event(), threading.Event()

    def do() -> None:
        began.set()
        may_end.wait(60)

    done: list[str] = []
    busy = threading.Thread(target=ChoreRound(redis, Chore("sweep", every_seconds=0.001, do=do)).run)
    busy.start()
    assert began.wait(60)
    try:
        assert not ChoreRound(redis, counting(done, "other", every_seconds=0.001)).run()
    finally:
        may_end.set()
        busy.join()

    assert done == []


def test_a_killed_gateways_chore_is_done_by_another_when_its_lease_is_over(
    redis: Redis, wait_until: Callable[..., None]
) -> None:
    redis.set(CHORE, "of the dead", px=300)
    done: list[str] = []

    wait_until(ChoreRound(redis, counting(done, "other")).run)

    assert done == ["other"]


def test_an_outage_is_logged_once_and_the_chore_is_done_after_it(redis: Redis) -> None:
    is_down = True

    def do() -> None:
        if is_down:
            raise StorageUnavailable("The object store does not answer.")

    sweep = ChoreRound(redis, Chore("sweep", every_seconds=10, do=do))
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            assert not sweep.run()
            assert redis.pttl(CHORE) <= 5000
            redis.delete(CHORE)
        is_down = False
        assert sweep.run()

    assert [log["event"] for log in logs] == ["chore_unavailable", "chore_back"]


def test_without_redis_nothing_is_done() -> None:
    done: list[str] = []
    with connect("redis://127.0.0.1:1/0") as nobody:
        assert not ChoreRound(nobody, counting(done, "a")).run()

    assert done == []


def test_what_is_everyones_is_done_by_each_gateway_and_without_redis_too(redis: Redis) -> None:
    """Whoever takes jobs back from dead workers must have seen the outage that made all leases look dead."""
    done: list[str] = []
    with connect("redis://127.0.0.1:1/0") as nobody:
        for client, name in ((redis, "a"), (redis, "b"), (nobody, "c")):
            chore = Chore("look", every_seconds=60, do=lambda name=name: done.append(name), is_everyones=True)
            assert ChoreRound(client, chore).run()

    assert done == ["a", "b", "c"]


def test_a_bug_in_a_chore_is_logged_and_ends_nothing(redis: Redis) -> None:
    with structlog.testing.capture_logs() as logs:
        assert ChoreRound(redis, Chore("sweep", every_seconds=60, do=lambda: 1 / 0)).run()

    assert [(log["event"], log["chore"]) for log in logs] == [("chore_failed", "sweep")]


def test_chores_run_at_maxmemory(redis: Redis, limit_memory: Callable[[int], None]) -> None:
    """Some of them are what makes room."""
    done: list[str] = []
    limit_memory(1)

    ChoreRound(redis, counting(done, "a")).run()

    assert done == ["a"]


def test_a_chore_that_hangs_delays_no_other(redis: Redis, wait_until: Callable[..., None]) -> None:
    done: list[str] = []
    may_end = threading.Event()
    chores = Chores(
        redis,
        [
            Chore("hangs", every_seconds=0.01, do=may_end.wait),
            Chore("runs", every_seconds=0.01, do=lambda: done.append("again")),
        ],
    )
    chores.start()
    try:
        wait_until(lambda: len(done) >= 3)
    finally:
        may_end.set()
        chores.stop()
