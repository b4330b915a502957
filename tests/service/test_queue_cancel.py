"""CANCEL: waiting, running, followed by others."""

import pytest
from redis import Redis

from service.errors import VideoNotFound
from service.jobs.execution import Outcome, Progress, Signal, Verdict
from service.jobs.queue import JobQueue
from service.jobs.record import State
from service.jobs.store import VideoStore
from service.jobs.submission import SubmitKind
from tests.service.claims import MakeSubmission, claim, completed, events


def test_cancelling_the_leader_leaves_the_follower_its_job(
    queue: JobQueue, store: VideoStore, submission: MakeSubmission
) -> None:
    leader, follower = (queue.submit(submission()).record for _ in range(2))

    assert queue.cancel(leader.id)

    claimed = claim(queue)
    assert queue.report(claimed.lease, Progress(stage="denoise", step=1, num_steps=20, percent=5)) is Signal.OK
    queue.finish(claimed.lease, completed(claimed))
    assert store.get(leader.id).state is State.CANCELLED
    assert store.get(follower.id).state is State.COMPLETED


def test_a_waiting_video_is_cancelled_at_once(
    queue: JobQueue, store: VideoStore, redis: Redis, submission: MakeSubmission
) -> None:
    video = queue.submit(submission()).record

    assert queue.cancel(video.id)
    assert not queue.cancel(video.id)

    cancelled = store.get(video.id)
    assert cancelled.error is not None
    assert (cancelled.status, cancelled.error.code) == ("failed", "cancelled")
    assert queue.depth() == 0
    assert events(redis) == [(video.id, "cancelled")]


def test_a_running_video_is_cancelled_and_its_worker_hears_of_it(
    queue: JobQueue, redis: Redis, submission: MakeSubmission
) -> None:
    video = queue.submit(submission()).record
    claimed = claim(queue)

    queue.cancel(video.id)

    progress = Progress(stage="denoise", step=3, num_steps=20, percent=15)
    assert queue.report(claimed.lease, progress) is Signal.CANCEL
    assert queue.renew([claimed.lease]) == [Signal.CANCEL]
    assert queue.finish(claimed.lease, Outcome.cancelled(worker="w1")) is Verdict.COMMITTED
    assert events(redis) == [(video.id, "cancelled")]
    assert queue.num_running() == 0


def test_a_result_that_comes_after_the_cancellation_is_not_kept(
    queue: JobQueue, redis: Redis, submission: MakeSubmission
) -> None:
    video = queue.submit(submission()).record
    claimed = claim(queue)
    queue.cancel(video.id)

    assert queue.finish(claimed.lease, completed(claimed)) is Verdict.LOST

    assert events(redis) == [(video.id, "cancelled")]
    assert queue.submit(submission()).kind is SubmitKind.QUEUED


def test_a_new_request_does_not_join_a_job_that_is_being_cancelled(queue: JobQueue, submission: MakeSubmission) -> None:
    video = queue.submit(submission()).record
    claim(queue)
    queue.cancel(video.id)

    assert queue.submit(submission()).kind is SubmitKind.QUEUED


def test_the_end_of_a_cancelled_job_does_not_hide_its_successor_from_twins(
    queue: JobQueue, submission: MakeSubmission
) -> None:
    video = queue.submit(submission()).record
    old = claim(queue)
    queue.cancel(video.id)
    successor = queue.submit(submission()).record

    queue.finish(old.lease, Outcome.cancelled())

    twin = queue.submit(submission())
    assert (twin.kind, twin.record.job_id) == (SubmitKind.JOINED, successor.job_id)


def test_a_job_that_nobody_wants_is_not_handed_back_to_the_queue(queue: JobQueue, submission: MakeSubmission) -> None:
    video = queue.submit(submission()).record
    claimed = claim(queue)
    queue.cancel(video.id)

    assert queue.release(claimed.lease) is Verdict.COMMITTED

    assert (queue.depth(), queue.num_running()) == (0, 0)


def test_cancelling_an_unknown_video_is_an_error(queue: JobQueue) -> None:
    with pytest.raises(VideoNotFound):
        queue.cancel("video_x")
