"""The simulated fleet keeps its books, and its short cuts change nothing."""

import numpy as np
import pytest

from bench.fleet_load import day_load, work_of
from bench.fleet_redis import operation_seconds
from bench.fleet_run import PRIORITIES, Faults, ideal_ends, run_fleet, waits

FAULTLESS = Faults(per_gpu_hour=0.0)
BUSY_HOURS = (9, 12)


@pytest.fixture(scope="module")
def load():
    return day_load(3, share=0.8, hours=BUSY_HOURS, rng=np.random.default_rng(1))


def run(load, faults=FAULTLESS, *, num_gpus=3, is_exact=False):
    return run_fleet(num_gpus, load, faults=faults, rng=np.random.default_rng(2), is_exact=is_exact)


def test_steps_made_in_one_stretch_end_when_single_steps_do(load):
    stretches, steps = run(load), run(load, is_exact=True)

    assert stretches.ends == pytest.approx(steps.ends, abs=1e-3)
    assert (stretches.books.num_steps, stretches.books.num_swaps) == (steps.books.num_steps, steps.books.num_swaps)


def test_a_faultless_fleet_does_all_the_work_and_no_more(load):
    outcome = run(load)

    assert outcome.books.work_seconds == pytest.approx(sum(work_of(kind).job.seconds for kind in load.kinds))
    assert outcome.books.lost_seconds == 0
    assert np.isfinite(outcome.ends).all()


def test_checkpoints_save_most_of_what_dying_gpus_had_made(load):
    often = {"per_gpu_hour": 1.0}

    noticed, killed, bare = (
        run(load, faults)
        for faults in (Faults(**often, has_notice=True), Faults(**often), Faults(**often, has_checkpoints=False))
    )

    assert noticed.num_deaths > 3
    assert 0 < noticed.lost_share < killed.lost_share < bare.lost_share / 3


def test_work_that_dying_gpus_lost_is_made_again(load):
    outcome = run(load, Faults(per_gpu_hour=1.0))

    done = [work_of(kind).job.seconds for kind, end in zip(load.kinds, outcome.ends, strict=True) if np.isfinite(end)]
    made_again = outcome.books.work_seconds - sum(done)
    # A step that a GPU took with it was never booked as made, and a job that failed counts nowhere.
    assert 0 <= made_again < outcome.books.lost_seconds + outcome.num_failed * 1100


def test_an_ideal_queue_serves_one_line_without_gaps(load):
    ends = ideal_ends(load, 3)

    assert all(waits(load, ends, priority, after=0.0).min() >= 0 for priority in PRIORITIES)
    assert ideal_ends(load, 10_000) == pytest.approx(
        load.arrivals + np.array([work_of(kind).seconds for kind in load.kinds])
    )


def test_interactive_jobs_hardly_wait_in_a_fleet_of_a_hundred():
    load = day_load(100, share=0.7, hours=(11, 12.5), rng=np.random.default_rng(3))
    outcome = run(load, num_gpus=100)

    ours = np.percentile(outcome.waits("interactive"), 95)
    assert ours <= 2 * np.percentile(waits(load, ideal_ends(load, 100), "interactive", after=0.0), 95)


def test_every_operation_costs_the_server_something(tmp_path):
    seconds = operation_seconds(tmp_path, num_jobs=20, num_waiting=10)

    assert seconds.keys() >= {"submit", "claim", "ask", "report", "renew", "show", "reclaim", "finish", "get"}
    assert min(seconds.values()) >= 0
