"""FINISH: one end, one event."""

from redis import Redis

from service.jobs.execution import Outcome, Verdict
from service.jobs.queue import JobQueue
from service.jobs.record import State
from service.jobs.store import VideoStore
from service.jobs.submission import SubmitKind
from tests.service.claims import MakeSubmission, claim, completed, events


def test_a_job_goes_from_queued_to_completed_with_one_event(
    queue: JobQueue, store: VideoStore, redis: Redis, submission: MakeSubmission
) -> None:
    video = queue.submit(submission()).record
    assert (video.status, video.queue_position, queue.depth()) == ("queued", 0, 1)

    claimed = claim(queue)
    assert store.get(video.id).status == "in_progress"
    assert claimed.payload.request == video.request
    assert claimed.attempt == 1

    assert queue.finish(claimed.lease, completed(claimed)) is Verdict.COMMITTED
    done = store.get(video.id)
    assert (done.state, done.percent, done.queue_position) == (State.COMPLETED, 100, None)
    assert done.asset is not None
    assert done.asset.id == claimed.payload.asset_id
    assert done.created_at <= (done.started_at or 0) <= (done.finished_at or 0) < (done.expires_at or 0)
    assert events(redis) == [(video.id, "completed")]
    assert queue.num_running() == 0


def test_finishing_twice_commits_once(queue: JobQueue, redis: Redis, submission: MakeSubmission) -> None:
    queue.submit(submission())
    claimed = claim(queue)

    verdicts = [queue.finish(claimed.lease, completed(claimed)) for _ in range(3)]

    assert verdicts == [Verdict.COMMITTED, Verdict.ALREADY_MINE, Verdict.ALREADY_MINE]
    assert len(events(redis)) == 1


def test_a_failed_job_reports_its_error_and_is_not_cached(
    queue: JobQueue, store: VideoStore, submission: MakeSubmission
) -> None:
    video = queue.submit(submission()).record
    queue.finish(claim(queue).lease, Outcome.failed("out_of_memory", "The GPU is too small.", worker="w1"))

    failed = store.get(video.id)
    assert failed.error is not None
    assert (failed.status, failed.error.code) == ("failed", "out_of_memory")
    assert queue.submit(submission()).kind is SubmitKind.QUEUED
