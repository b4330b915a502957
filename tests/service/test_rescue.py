"""Jobs of dead workers while no worker lives."""

import pytest
from redis import Redis

from service.jobs.link import Link
from service.jobs.queue import JobQueue
from service.jobs.record import WorkerInfo
from service.jobs.rescue import Rescue
from service.jobs.store import VideoStore
from tests.service.claims import MakeSubmission, claim, lapse


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def rescue(queue: JobQueue, store: VideoStore, clock: Clock) -> Rescue:
    return Rescue(queue, store, Link(lease_seconds=10.0, clock=clock))


def test_without_workers_the_jobs_of_dead_ones_come_back(
    queue: JobQueue, rescue: Rescue, redis: Redis, clock: Clock, submission: MakeSubmission
) -> None:
    queue.submit(submission())
    lapse(redis, claim(queue).lease)
    # All leases look dead after an outage: it looks for a whole lease first.
    rescue.look()
    assert queue.depth() == 0

    clock.seconds = 8
    rescue.look()
    clock.seconds = 11
    rescue.look()

    assert (queue.depth(), queue.num_running()) == (1, 0)


def test_a_live_worker_is_left_to_do_it(
    queue: JobQueue, store: VideoStore, rescue: Rescue, redis: Redis, clock: Clock, submission: MakeSubmission
) -> None:
    store.report_alive(WorkerInfo(name="w2", model="m", device="cpu", started_at=1.0, host="h", pid=1), ttl_seconds=60)
    queue.submit(submission())
    lapse(redis, claim(queue).lease)

    for clock.seconds in (4, 8, 12):
        rescue.look()

    assert queue.depth() == 0
