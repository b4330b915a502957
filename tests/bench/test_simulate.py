"""The simulation keeps its books, and a small one shows what the large one is for."""

import random

import pytest

from bench.simulate import (
    LIMITS,
    OurScheduler,
    TurnsScheduler,
    alone_seconds,
    decision_figures,
    decision_seconds,
    figures,
    mixed_load,
    simulate,
)


@pytest.fixture(scope="module")
def load():
    return mixed_load(random.Random(1), num_films=60)


@pytest.fixture(scope="module")
def outcomes(load):
    schedulers = {"ours": OurScheduler(), "fifo": TurnsScheduler(1), "turns": TurnsScheduler(4)}
    return {name: simulate(load, scheduler) for name, scheduler in schedulers.items()}


def test_every_scheduler_does_all_the_work_and_no_more(load, outcomes):
    work_seconds = sum(map(alone_seconds, load))

    for outcome in outcomes.values():
        assert outcome.work_seconds == pytest.approx(work_seconds)
        assert outcome.completion_seconds.keys() == {job.id for job in load}
        assert min(outcome.wait_seconds.values()) > -1e-6


def test_first_come_first_served_serves_in_the_order_of_arrival(load, outcomes):
    completion_seconds = outcomes["fifo"].completion_seconds
    ends = [job.arrived_at + completion_seconds[job.id] for job in load]

    assert ends == sorted(ends)
    # High noise, low noise, and back for the next.
    assert outcomes["fifo"].num_swaps == 2 * len(load) - 1


def test_taking_turns_makes_equal_long_jobs_later():
    films = [job for job in mixed_load(random.Random(2), num_films=5) if job.id.startswith("film")]

    ours, turns = simulate(films, OurScheduler()), simulate(films, TurnsScheduler(len(films)))

    assert ours.mean_completion("film") < turns.mean_completion("film")


def test_a_small_run_reaches_the_goals(outcomes):
    shown = list(figures(outcomes["ours"], outcomes["fifo"], outcomes["turns"]))

    assert [figure.line for figure in shown if figure.is_short] == []


def test_one_decision_over_ten_thousand_jobs_is_measured():
    seconds = decision_seconds(random.Random(3))

    assert min(seconds) > 0
    assert [figure.unit for figure in decision_figures(seconds)] == ["ms", "ms"]
    assert LIMITS.max_jobs_in_flight < len(seconds)
