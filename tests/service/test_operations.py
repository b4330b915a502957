"""What an operator does by hand to a job."""

import pytest
from redis import Redis

from service.errors import Conflict, NotFound
from service.jobs.execution import Outcome, Signal, Verdict
from service.jobs.lua import load_script
from service.jobs.operations import Operations
from service.jobs.queue import JobQueue
from service.jobs.record import State
from service.jobs.store import VideoStore
from tests.service.claims import MakeSubmission, claim, completed, events


@pytest.fixture
def operations(redis: Redis) -> Operations:
    return Operations(redis)


def test_a_running_job_can_be_taken_from_its_worker(
    queue: JobQueue, operations: Operations, store: VideoStore, submission: MakeSubmission
) -> None:
    video = queue.submit(submission()).record
    stuck = claim(queue)

    operations.requeue(video.job_id)

    assert queue.renew([stuck.lease]) == [Signal.LOST]
    assert queue.finish(stuck.lease, completed(stuck)) is Verdict.LOST
    again = claim(queue)
    assert (again.lease.job_id, again.attempt) == (video.job_id, 1)
    queue.finish(again.lease, completed(again))
    assert store.get(video.id).state is State.COMPLETED


@pytest.mark.parametrize("is_running", [True, False])
def test_a_job_can_be_failed_by_hand(
    queue: JobQueue,
    operations: Operations,
    store: VideoStore,
    redis: Redis,
    submission: MakeSubmission,
    is_running: bool,  # noqa: FBT001  parametrized
) -> None:
    video = queue.submit(submission()).record
    claimed = claim(queue) if is_running else None

    operations.fail(video.job_id, reason="It asks for too much.")

    error = store.get(video.id).error
    assert error is not None
    assert (error.code, error.message) == ("failed_by_operator", "It asks for too much.")
    assert events(redis) == [(video.id, "failed")]
    assert (queue.depth(), queue.num_running()) == (0, 0)
    if claimed is not None:
        assert queue.finish(claimed.lease, completed(claimed)) is Verdict.LOST


def test_what_can_not_be_done_says_why(queue: JobQueue, operations: Operations, submission: MakeSubmission) -> None:
    with pytest.raises(NotFound, match="no job job_x"):
        operations.requeue("job_x")
    video = queue.submit(submission()).record
    with pytest.raises(Conflict, match="waits already"):
        operations.requeue(video.job_id)
    queue.finish(claim(queue).lease, Outcome.failed("broken", "It broke."))
    for call in (operations.requeue, lambda job_id: operations.fail(job_id, reason="no")):
        with pytest.raises(Conflict, match="has ended"):
            call(video.job_id)


def test_an_operator_sees_what_waits(queue: JobQueue, operations: Operations, submission: MakeSubmission) -> None:
    for i in range(3):
        queue.submit(submission(f"ball {i}").model_copy(update={"expected_seconds": 4.0}))
    operations.pause("bulk")

    interactive, standard, bulk = operations.lanes()

    assert (standard.num_jobs, standard.gpu_seconds, standard.is_paused) == (3, 12.0, False)
    assert standard.oldest_seconds is not None
    assert (interactive.num_jobs, bulk.num_jobs, bulk.is_paused) == (0, 0, True)


def test_an_operator_sees_a_job_without_its_prompt(
    queue: JobQueue, operations: Operations, submission: MakeSubmission
) -> None:
    video = queue.submit(submission("a secret prompt")).record
    queue.retry(claim(queue).lease, "no disk space on w1.")

    job = operations.job(video.job_id)

    assert (job["status"], job["number_of_retries"]) == ("queued", "1")
    assert job["story"] == "Attempt 1: no disk space on w1."
    assert "secret" not in str(job)


def test_an_answer_that_got_lost_is_given_again(queue: JobQueue, redis: Redis, submission: MakeSubmission) -> None:
    operate = load_script(redis, "operate")
    job_id = queue.submit(submission()).record.job_id
    claim(queue)

    assert [operate(args=["requeue", job_id, "", "", "call-1"]) for _ in range(2)] == ["done", "done"]
    assert [operate(args=["fail", job_id, "", "No.", "call-2"]) for _ in range(2)] == ["done", "done"]
    assert len(events(redis)) == 1
