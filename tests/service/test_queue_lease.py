"""REPORT, RENEW, RECLAIM, RELEASE: a job in the hands of a worker."""

from redis import Redis

from service.jobs.execution import Lease, Progress, Signal, Verdict
from service.jobs.garbage import Garbage
from service.jobs.queue import JobQueue
from service.jobs.record import State, checkpoint_key
from service.jobs.store import VideoStore
from tests.service.claims import MakeSubmission, claim, completed, events, lapse


def test_progress_is_seen_and_never_goes_back(
    queue: JobQueue, store: VideoStore, redis: Redis, submission: MakeSubmission
) -> None:
    video = queue.submit(submission()).record
    claimed = claim(queue)
    queue.report(claimed.lease, Progress(stage="denoise", step=12, num_steps=20, percent=60))
    seen = store.get(video.id)
    assert (seen.percent, seen.step, seen.num_steps, seen.stage) == (60, 12, 20, "denoise")

    lapse(redis, claimed.lease)
    queue.reclaim()
    assert store.get(video.id).percent == 60
    again = claim(queue)
    queue.report(again.lease, Progress(stage="denoise", step=1, num_steps=20, percent=5))

    assert (store.get(video.id).percent, store.get(video.id).attempt) == (60, 2)


def test_progress_is_published_with_the_job(queue: JobQueue, redis: Redis, submission: MakeSubmission) -> None:
    with redis.pubsub() as listener:
        listener.subscribe("wanserve:progress")
        listener.get_message(timeout=5)
        video = queue.submit(submission()).record
        claimed = claim(queue)
        queue.report(claimed.lease, Progress(stage="denoise", step=3, num_steps=20, percent=15))
        queue.finish(claimed.lease, completed(claimed))
        messages = [message["data"] for _ in range(3) if (message := listener.get_message(timeout=5))]

    assert ['"started"' in messages[0], '"step":3' in messages[1], video.id in messages[2]] == [True] * 3


def test_renewing_prolongs_the_lease_and_tells_who_lost(
    queue: JobQueue, redis: Redis, submission: MakeSubmission
) -> None:
    queue.submit(submission())
    lease = claim(queue).lease
    lapse(redis, lease)

    signals = queue.renew([lease, Lease(job_id="job_x", execution_id="y")])

    assert signals == [Signal.OK, Signal.LOST]
    assert queue.reclaim() == []


def test_a_silent_workers_job_runs_again_before_the_others(
    queue: JobQueue, store: VideoStore, redis: Redis, submission: MakeSubmission
) -> None:
    video = queue.submit(submission()).record
    dead = claim(queue, "dead")
    queue.submit(submission("another"))
    lapse(redis, dead.lease)

    (reclaimed,) = queue.reclaim()

    assert (reclaimed.action, reclaimed.worker) == ("requeued", "dead")
    assert store.get(video.id).queue_position == 0
    second = claim(queue, "alive")
    assert (second.lease.job_id, second.attempt) == (video.job_id, 2)
    assert queue.finish(dead.lease, completed(dead)) is Verdict.LOST
    assert queue.finish(second.lease, completed(second)) is Verdict.COMMITTED
    assert events(redis) == [(video.id, "completed")]


def test_a_job_whose_workers_all_die_fails_and_tells_its_story(
    queue: JobQueue, store: VideoStore, redis: Redis, submission: MakeSubmission
) -> None:
    video = queue.submit(submission()).record
    for worker in ("one", "two", "three"):
        claimed = claim(queue, worker)
        queue.report(claimed.lease, Progress(stage="denoise", step=7, num_steps=20, percent=30))
        lapse(redis, claimed.lease)
        queue.reclaim()

    failed = store.get(video.id)
    assert (failed.status, failed.state) == ("failed", State.FAILED)
    assert failed.error is not None
    assert failed.error.code == "attempts_exhausted"
    assert "Attempt 1: worker one went silent at step 7 of 20." in failed.error.message
    assert "Attempt 3: worker three" in failed.error.message
    assert events(redis) == [(video.id, "failed")]
    assert queue.depth() == 0


def test_a_shutdown_hands_back_without_costing_an_attempt(
    queue: JobQueue, store: VideoStore, submission: MakeSubmission
) -> None:
    video = queue.submit(submission()).record
    for _ in range(5):
        claimed = claim(queue)
        assert queue.release(claimed.lease) is Verdict.COMMITTED
        assert queue.release(claimed.lease) is Verdict.ALREADY_MINE

    assert store.get(video.id).queue_position == 0
    assert claim(queue).attempt == 1


def test_a_retry_costs_an_attempt_and_the_last_one_fails(
    queue: JobQueue, store: VideoStore, submission: MakeSubmission
) -> None:
    video = queue.submit(submission()).record
    for _ in range(3):
        assert queue.retry(claim(queue).lease, "out of memory.") is Verdict.COMMITTED

    error = store.get(video.id).error
    assert error is not None
    assert "Attempt 3: out of memory." in error.message


def test_a_state_that_is_saved_twice_is_no_garbage(
    queue: JobQueue, garbage: Garbage, redis: Redis, submission: MakeSubmission
) -> None:
    queue.submit(submission())
    lease = claim(queue).lease
    key = checkpoint_key(lease.job_id, lease.execution_id, 3)
    for _ in range(2):
        garbage.announce(key)
        assert queue.checkpoint(lease, key, step=3) is Signal.OK

    assert redis.zcard("wanserve:garbage") == 0


def test_a_state_that_was_overtaken_does_not_set_the_job_back(
    queue: JobQueue, garbage: Garbage, redis: Redis, submission: MakeSubmission
) -> None:
    queue.submit(submission())
    lease = claim(queue).lease
    newer, older = (checkpoint_key(lease.job_id, lease.execution_id, step) for step in (12, 11))
    queue.checkpoint(lease, newer, step=12)
    garbage.announce(older)
    queue.checkpoint(lease, older, step=11)

    assert redis.hget(f"rq:job:{lease.job_id}", "checkpoint") == newer
    assert garbage.due() == [older]
    lapse(redis, lease)
    queue.reclaim()
    # One that could not go on from it begins anew.
    again = claim(queue).lease
    queue.checkpoint(again, checkpoint_key(again.job_id, again.execution_id, 1), step=1)
    assert redis.hget(f"rq:job:{lease.job_id}", "checkpoint_step") == "1"
