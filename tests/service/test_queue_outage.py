"""The queue without Redis, and with a full one."""

from collections.abc import Callable

import pytest
from redis import Redis

from service.errors import QueueFull, QueueUnavailable
from service.jobs.connection import connect
from service.jobs.execution import Signal, Verdict
from service.jobs.queue import JobQueue
from service.jobs.store import VideoStore
from service.jobs.submission import SubmitKind
from service.settings import Settings
from tests.conftest import FINGERPRINT
from tests.service.claims import MakeSubmission, claim, completed


def test_without_redis_every_call_is_a_clear_retryable_error(settings: Settings, submission: MakeSubmission) -> None:
    with connect("redis://127.0.0.1:1/0") as nobody:
        queue = JobQueue(nobody, settings)
        calls = (
            lambda: queue.submit(submission()),
            lambda: queue.claim(worker="w1", fingerprint=FINGERPRINT, execution_id="x"),
            queue.depth,
            lambda: VideoStore(nobody).get("video_x"),
        )
        for call in calls:
            with pytest.raises(QueueUnavailable, match="does not answer") as error:
                call()
            assert error.value.retryable


def test_finishing_works_at_maxmemory_and_submitting_does_not(
    queue: JobQueue, store: VideoStore, submission: MakeSubmission, limit_memory: Callable[[int], None]
) -> None:
    video = queue.submit(submission()).record
    claimed = claim(queue)
    limit_memory(1)

    assert queue.renew([claimed.lease]) == [Signal.OK]
    with pytest.raises(QueueFull):
        queue.submit(submission("another"))
    assert queue.finish(claimed.lease, completed(claimed)) is Verdict.COMMITTED

    assert store.get(video.id).status == "completed"


def test_new_work_is_refused_before_the_memory_is_full(
    redis: Redis, settings: Settings, submission: MakeSubmission, limit_memory: Callable[[int], None]
) -> None:
    accepted = submission()
    JobQueue(redis, settings).submit(accepted)
    limit_memory(redis.info("memory")["used_memory"] * 10 // 9)
    queue = JobQueue(redis, settings)

    with pytest.raises(QueueFull, match="nearly full") as error:
        queue.submit(submission("another"))

    assert (error.value.http_status, error.value.retry_after_seconds) == (503, 30)
    assert queue.submit(accepted).record.id == accepted.video_id
    limit_memory(redis.info("memory")["used_memory"] * 3 // 2)
    assert JobQueue(redis, settings).submit(submission("another")).kind is SubmitKind.QUEUED
