from dataclasses import dataclass

import pytest

from service.jobs.link import Link


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def beat_for(link: Link, clock: Clock, seconds: float) -> None:
    for _ in range(int(seconds)):
        clock.now += 1
        link.answered()


def test_nobody_reclaims_before_a_whole_lease_of_answers(clock: Clock) -> None:
    link = Link(lease_seconds=10, clock=clock)
    beat_for(link, clock, 10)
    assert not link.may_reclaim
    beat_for(link, clock, 1)
    assert link.may_reclaim


def test_outage_starts_the_count_anew(clock: Clock) -> None:
    link = Link(lease_seconds=10, clock=clock)
    beat_for(link, clock, 30)
    link.failed()
    assert not link.may_reclaim
    beat_for(link, clock, 10)
    assert not link.may_reclaim
    beat_for(link, clock, 2)
    assert link.may_reclaim


def test_pause_of_the_process_counts_as_an_outage(clock: Clock) -> None:
    link = Link(lease_seconds=10, clock=clock)
    beat_for(link, clock, 30)
    clock.now += 11
    assert link.answered()
    assert not link.may_reclaim


def test_only_the_first_failure_and_the_first_answer_are_news(clock: Clock) -> None:
    link = Link(lease_seconds=10, clock=clock)
    assert [link.failed(), link.failed()] == [True, False]
    assert [link.answered(), link.answered()] == [True, False]
