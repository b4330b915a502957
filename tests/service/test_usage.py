"""What a tenant may use, and what it used: exact to the millisecond, whatever becomes of its jobs."""

import time

import pytest
from redis import Redis

from service.errors import BudgetExceeded, TenantQueueFull
from service.jobs.execution import Outcome, Progress
from service.jobs.queue import JobQueue
from service.jobs.submission import Submission
from service.usage import DayUsage, Usage
from tests.service.claims import MakeSubmission, claim, completed

DAY = 24 * 3600


@pytest.fixture
def usage(redis: Redis) -> Usage:
    return Usage(redis)


@pytest.fixture
def make(submission: MakeSubmission) -> MakeSubmission:
    """make(seed=1, ...) is a request of the tenant acme that takes ten GPU seconds by its estimate."""

    def make_one(**fields: object) -> Submission:
        seed = fields.pop("seed", 1)
        return submission(seed=seed).model_copy(update={"tenant": "acme", "expected_seconds": 10.0, **fields})

    return make_one


def today(usage: Usage, tenant: str = "acme") -> DayUsage:
    return usage.days(tenant, num_days=1)[0]


def test_an_estimate_is_held_until_the_job_ends_and_then_the_measure_counts(
    queue: JobQueue, usage: Usage, make: MakeSubmission
) -> None:
    queue.submit(make(seed=1))
    queue.submit(make(seed=2))
    assert (today(usage).reserved_gpu_seconds, today(usage).gpu_seconds) == (20.0, 0.0)

    claimed = claim(queue)
    queue.finish(claimed.lease, completed(claimed))

    assert (today(usage).reserved_gpu_seconds, today(usage).gpu_seconds) == (10.0, 0.9)
    assert today(usage).queued == 2
    queue.finish(claimed.lease, completed(claimed))
    assert today(usage).gpu_seconds == 0.9


def test_what_was_answered_by_another_job_costs_nothing(queue: JobQueue, usage: Usage, make: MakeSubmission) -> None:
    queue.submit(make())
    queue.submit(make())
    claimed = claim(queue)
    queue.finish(claimed.lease, completed(claimed))
    queue.submit(make())

    used = today(usage)
    assert (used.queued, used.joined, used.cached) == (1, 1, 1)
    assert (used.gpu_seconds, used.reserved_gpu_seconds) == (0.9, 0.0)


def test_a_job_that_never_ran_costs_nothing_and_one_that_was_stopped_as_far_as_it_came(
    queue: JobQueue, usage: Usage, make: MakeSubmission
) -> None:
    waiting = queue.submit(make(seed=1)).record
    queue.cancel(waiting.id)
    assert today(usage).total_gpu_seconds == 0

    running = queue.submit(make(seed=2)).record
    claimed = claim(queue)
    queue.report(claimed.lease, Progress(stage="denoise", step=3, num_steps=10, percent=30))
    queue.cancel(running.id)
    queue.finish(claimed.lease, Outcome.cancelled())

    assert (today(usage).gpu_seconds, today(usage).reserved_gpu_seconds) == (3.0, 0.0)


def test_beyond_the_budget_nothing_is_queued_until_the_day_ends(
    queue: JobQueue, usage: Usage, make: MakeSubmission
) -> None:
    for seed in (1, 2):
        queue.submit(make(seed=seed, daily_gpu_seconds_of_tenant=25.0))

    with pytest.raises(BudgetExceeded, match=r"10\.0 GPU seconds, and 5\.0 are left of today's budget of 25\.0") as no:
        queue.submit(make(seed=3, daily_gpu_seconds_of_tenant=25.0))

    seconds_left = DAY - time.time() % DAY
    assert no.value.retry_after_seconds == pytest.approx(seconds_left, abs=5)
    assert queue.depth() == 2
    assert today(usage).queued == 2


def test_equal_work_is_answered_beyond_the_budget_too(queue: JobQueue, make: MakeSubmission) -> None:
    queue.submit(make(daily_gpu_seconds_of_tenant=10.0))

    assert queue.submit(make(daily_gpu_seconds_of_tenant=10.0)).kind == "joined"


def test_a_budget_of_nothing_lets_nothing_through(queue: JobQueue, make: MakeSubmission) -> None:
    with pytest.raises(BudgetExceeded):
        queue.submit(make(daily_gpu_seconds_of_tenant=0.0))


def test_jobs_that_run_count_among_those_at_once(queue: JobQueue, make: MakeSubmission) -> None:
    queue.submit(make(seed=1, max_active_by_tenant=2))
    claimed = claim(queue)
    queue.submit(make(seed=2, max_active_by_tenant=2))

    with pytest.raises(TenantQueueFull, match="2 jobs of yours wait or run already"):
        queue.submit(make(seed=3, max_active_by_tenant=2))
    queue.finish(claimed.lease, completed(claimed))
    queue.submit(make(seed=3, max_active_by_tenant=2))


def test_what_rq_takes_away_gives_back_what_it_held(
    queue: JobQueue, redis: Redis, usage: Usage, make: MakeSubmission
) -> None:
    record = queue.submit(make()).record
    redis.lrem("rq:queue:standard", 1, record.job_id)
    redis.delete(f"rq:job:{record.job_id}")

    assert queue.claim(worker="w", fingerprint="f" * 64, execution_id="1" * 32) is None

    assert today(usage).total_gpu_seconds == 0
    assert not redis.exists("wanserve:reserved", "wanserve:tenant:acme:active")


def test_days_without_work_are_zeros_and_the_record_goes_by_itself(
    queue: JobQueue, redis: Redis, usage: Usage, make: MakeSubmission
) -> None:
    queue.submit(make())

    days = usage.days("acme", num_days=3)

    assert [day.queued for day in days] == [1, 0, 0]
    assert (days[0].day - days[2].day).days == 2
    [key] = redis.keys("wanserve:usage:*")
    assert 399 * DAY < redis.ttl(key) <= 400 * DAY
