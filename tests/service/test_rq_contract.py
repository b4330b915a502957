"""RQ's own tools read what our scripts write: the key layout of RQ 3.0 that we rely on."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis
from rq import Queue, Worker
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.registry import CanceledJobRegistry, FailedJobRegistry, FinishedJobRegistry, StartedJobRegistry

from service.jobs.connection import connect_bytes
from service.jobs.execution import Claim, Outcome
from service.jobs.queue import JobQueue
from service.jobs.record import new_execution_id
from service.jobs.store import VideoStore
from service.jobs.submission import Submission
from service.jobs.submit import TASK
from service.settings import Settings
from tests.conftest import FINGERPRINT
from tests.service.claims import events, lapse

MakeSubmission = Callable[..., Submission]


@pytest.fixture
def rq_redis(redis: Redis, settings: Settings) -> Redis:
    """The same server, answering in bytes as RQ wants it."""
    assert settings.redis_url is not None
    return connect_bytes(settings.redis_url)


@pytest.fixture
def rq_queue(rq_redis: Redis) -> Queue:
    return Queue("standard", connection=rq_redis, serializer="json")


def claim(queue: JobQueue) -> Claim:
    claimed = queue.claim(worker="w1", fingerprint=FINGERPRINT, execution_id=new_execution_id())
    assert claimed is not None
    return claimed


def test_rq_reads_a_queued_job(queue: JobQueue, rq_queue: Queue, submission: MakeSubmission) -> None:
    video = queue.submit(submission("a secret prompt")).record

    job = Job.fetch(video.job_id, connection=rq_queue.connection, serializer="json")

    assert rq_queue.job_ids == [video.job_id]
    assert (job.func_name, job.args, job.origin) == (TASK, [video.job_id], "standard")
    assert job.get_status() is JobStatus.QUEUED
    assert (job.retries_left, job.result_ttl) == (2, 604_800)
    assert "secret" not in job.description


def test_rq_sees_a_started_job_and_its_clean_up_leaves_it_alone(
    queue: JobQueue, rq_queue: Queue, redis: Redis, submission: MakeSubmission
) -> None:
    queue.submit(submission())
    lease = claim(queue).lease
    # Dead for RQ's idea of time, were its own registry scored by our lease.
    redis.zadd("wanserve:leases", {f"{lease.job_id}:{lease.execution_id}": 1})

    registry = StartedJobRegistry(queue=rq_queue)
    job = Job.fetch(lease.job_id, connection=rq_queue.connection, serializer="json")
    (execution,) = job.get_executions()

    assert registry.get_job_ids() == [lease.job_id]
    assert (job.get_status(), job.worker_name) == (JobStatus.STARTED, "w1")
    assert (execution.id, execution.worker_name) == (lease.execution_id, "w1")
    assert Execution.fetch(lease.execution_id, lease.job_id, rq_queue.connection) == execution


def test_rq_sees_how_jobs_ended(queue: JobQueue, rq_queue: Queue, submission: MakeSubmission) -> None:
    finished, failed, cancelled = (queue.submit(submission(f"ball {i}")).record for i in range(3))
    queue.finish(claim(queue).lease, Outcome(state="completed", worker="w1"))
    queue.finish(claim(queue).lease, Outcome.failed("out_of_memory", "Too small.", worker="w1"))
    queue.cancel(cancelled.id)

    def fetch(job_id: str) -> Job:
        return Job.fetch(job_id, connection=rq_queue.connection, serializer="json")

    assert FinishedJobRegistry(queue=rq_queue).get_job_ids() == [finished.job_id]
    assert FailedJobRegistry(queue=rq_queue).get_job_ids() == [failed.job_id]
    assert CanceledJobRegistry(queue=rq_queue).get_job_ids() == [cancelled.job_id]
    assert StartedJobRegistry(queue=rq_queue).get_job_ids() == []
    assert fetch(finished.job_id).return_value() == {"asset_id": None}
    assert fetch(failed.job_id).latest_result().exc_string == "out_of_memory: Too small."
    assert [fetch(video.job_id).get_status() for video in (finished, failed, cancelled)] == [
        JobStatus.FINISHED,
        JobStatus.FAILED,
        JobStatus.CANCELED,
    ]
    assert 0 < rq_queue.connection.ttl(f"rq:job:{finished.job_id}") <= 604_800


def test_an_rq_workers_own_counters_go_up(queue: JobQueue, rq_queue: Queue, submission: MakeSubmission) -> None:
    worker = Worker([rq_queue], name="w1", connection=rq_queue.connection, serializer="json")
    worker.register_birth()
    for i in range(3):
        queue.submit(submission(f"ball {i}"))
        outcome = Outcome.failed("x", "y") if i == 2 else Outcome(state="completed")
        queue.finish(claim(queue).lease, outcome)

    worker.refresh()

    assert (worker.successful_job_count, worker.failed_job_count) == (2, 1)
    assert worker.total_working_time > 0


def test_rq_info_counts_right(queue: JobQueue, settings: Settings, submission: MakeSubmission) -> None:
    for i in range(4):
        queue.submit(submission(f"ball {i}"))
    claim(queue)
    queue.finish(claim(queue).lease, Outcome.failed("x", "y"))
    program = Path(sys.executable).with_name("rq")

    shown = subprocess.run(
        [program, "info", "--url", str(settings.redis_url), "--raw"], capture_output=True, text=True, timeout=60
    )

    assert "queue standard 2" in shown.stdout, shown.stdout + shown.stderr


def test_a_job_that_a_stock_client_put_in_is_never_run(queue: JobQueue, rq_queue: Queue) -> None:
    foreign = rq_queue.enqueue("os.system", "true")

    assert queue.claim(worker="w1", fingerprint=FINGERPRINT, execution_id=new_execution_id()) is None

    assert foreign.get_status(refresh=True) is JobStatus.FAILED
    assert FailedJobRegistry(queue=rq_queue).get_job_ids() == [foreign.id]


def test_a_job_that_has_ended_is_not_run_again_by_rq_requeue(
    queue: JobQueue, rq_queue: Queue, submission: MakeSubmission
) -> None:
    job_id = queue.submit(submission()).record.job_id
    queue.finish(claim(queue).lease, Outcome.failed("out_of_memory", "Too small.", worker="w1"))
    FailedJobRegistry(queue=rq_queue, serializer="json").requeue(job_id)
    assert rq_queue.job_ids == [job_id]

    assert queue.claim(worker="w1", fingerprint=FINGERPRINT, execution_id=new_execution_id()) is None

    job = Job.fetch(job_id, connection=rq_queue.connection, serializer="json")
    assert (job.get_status(), rq_queue.job_ids) == (JobStatus.FAILED, [])
    assert FailedJobRegistry(queue=rq_queue).get_job_ids() == [job_id]
    assert 0 < rq_queue.connection.ttl(f"rq:job:{job_id}") <= 604_800


def test_jobs_that_rq_deleted_fail_with_their_events_and_hold_up_nobody(
    queue: JobQueue, rq_queue: Queue, redis: Redis, store: VideoStore, submission: MakeSubmission
) -> None:
    videos = [queue.submit(submission(f"ball {i}")).record for i in range(10)]
    removed, kept = videos[:4], videos[4:]

    rq_queue.empty()

    assert [claim(queue).lease.job_id for _ in kept] == [video.job_id for video in kept]
    assert sorted(events(redis)) == sorted((video.id, "failed") for video in removed)
    errors = [store.get(video.id).error for video in removed]
    assert [error and error.code for error in errors] == ["job_removed"] * 4
    assert (queue.depth(), redis.zcard("wanserve:expiring")) == (0, 4)
    assert redis.keys("wanserve:tenant:*") == ["wanserve:tenant:default:active"]
    assert redis.smembers("wanserve:tenant:default:active") == {video.job_id for video in kept}


def test_a_running_job_that_rq_deleted_fails_with_its_event(
    queue: JobQueue, rq_queue: Queue, redis: Redis, submission: MakeSubmission
) -> None:
    video = queue.submit(submission()).record
    lease = claim(queue).lease

    Job.fetch(video.job_id, connection=rq_queue.connection, serializer="json").delete()
    lapse(redis, lease)

    assert queue.reclaim() == []
    assert events(redis) == [(video.id, "failed")]
    assert StartedJobRegistry(queue=rq_queue).get_job_ids() == []


def test_rqs_registries_forget_jobs_whose_time_is_over(
    queue: JobQueue, redis: Redis, submission: MakeSubmission
) -> None:
    redis.zadd("rq:failed:standard", {"job_of_last_week": 1})
    job_id = queue.submit(submission()).record.job_id

    queue.finish(claim(queue).lease, Outcome.failed("x", "y"))

    assert redis.zrange("rq:failed:standard", 0, -1) == [job_id]
