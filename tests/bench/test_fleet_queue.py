"""The mirror of the queue's order takes jobs in the order of the real scripts on a real server."""

import random
from collections.abc import Callable

import pytest
from redis import Redis

from bench.fleet_queue import SHARES, MirroredQueue, Waiter
from service.jobs.execution import Claim
from service.jobs.queue import JobQueue
from service.jobs.record import new_execution_id
from service.jobs.submission import Submission
from tests.conftest import FINGERPRINT

FRAMES = (5, 9, 17)


@pytest.mark.parametrize("seed", range(6))
def test_the_mirror_orders_like_the_server(
    queue: JobQueue, redis: Redis, submission: Callable[..., Submission], seed: int
) -> None:
    rng, mirror, running = random.Random(seed), MirroredQueue(), list[tuple[Claim, Waiter]]()

    def submit() -> None:
        fields = {
            "priority": rng.choice(list(SHARES)),
            "tenant": rng.choice("abbbccccccc"),
            "expected_seconds": rng.choice((0.5, 14.1, 272.0, 1056.7)),
            "weight": rng.choice((0.5, 1.0, 3.0)),
        }
        asked = submission("a ball", seed=-1, num_frames=rng.choice(FRAMES)).model_copy(update=fields)
        job_id = queue.submit(asked).record.job_id
        cost = asked.expected_seconds
        assert cost is not None
        waiter = Waiter(job_id, asked.priority, asked.tenant, cost, asked.request.shape)
        mirror.submit(waiter, weight=asked.weight)

    def claim() -> None:
        shapes = [f"64x64x{frames}" for frames in FRAMES if rng.random() < 0.3]
        busy_seconds = rng.choice((0.0, 14.1, 272.0, 1056.7))
        claimed = queue.claim(
            worker="w1",
            fingerprint=FINGERPRINT,
            execution_id=new_execution_id(),
            shapes=shapes,
            busy_seconds=busy_seconds,
        )
        waiter = mirror.claim(shapes, busy_seconds=busy_seconds)
        assert (claimed and claimed.lease.job_id) == (waiter and waiter.id)
        if claimed is not None and waiter is not None:
            running.append((claimed, waiter))

    def put_back() -> None:
        if running:
            claimed, waiter = running.pop(rng.randrange(len(running)))
            queue.release(claimed.lease)
            mirror.put_back(waiter)

    for _ in range(30):
        submit()
    for _ in range(80):
        rng.choice((submit, claim, claim, put_back))()
    while len(mirror):
        claim()
    claim()

    assert queue.depth() == len(mirror) == 0
