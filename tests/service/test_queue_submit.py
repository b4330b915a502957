"""SUBMIT: replay, cache, single flight, limits."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis

from service.errors import IdempotencyMismatch, QueueFull, ReplayedVideoDeleted
from service.jobs.queue import JobQueue
from service.jobs.record import new_video_id
from service.jobs.store import VideoStore
from service.jobs.submission import SubmitKind
from service.settings import Settings
from tests.service.claims import MakeSubmission, claim, completed, events


def test_twenty_concurrent_submits_with_one_key_make_one_job(
    queue: JobQueue, redis: Redis, submission: MakeSubmission
) -> None:
    def submit(_: int) -> SubmitKind:
        asked = submission(seed=-1).model_copy(update={"idempotency_key": "k", "body_fingerprint": "b"})
        return queue.submit(asked).kind

    with ThreadPoolExecutor(20) as pool:
        kinds = list(pool.map(submit, range(20)))

    assert sorted(kinds) == [SubmitKind.QUEUED] + [SubmitKind.REPLAYED] * 19
    assert queue.depth() == 1
    assert redis.zcard("wanserve:videos:default") == 1


def test_a_key_with_another_body_is_refused(queue: JobQueue, submission: MakeSubmission) -> None:
    first = submission().model_copy(update={"idempotency_key": "k", "body_fingerprint": "one"})
    queue.submit(first)

    with pytest.raises(IdempotencyMismatch) as error:
        queue.submit(submission("other").model_copy(update={"idempotency_key": "k", "body_fingerprint": "two"}))

    assert error.value.http_status == 422
    assert queue.depth() == 1


def test_a_replay_of_a_deleted_video_says_so(queue: JobQueue, store: VideoStore, submission: MakeSubmission) -> None:
    keyed = submission().model_copy(update={"idempotency_key": "k", "body_fingerprint": "b"})
    store.delete(queue.submit(keyed).record.id)

    with pytest.raises(ReplayedVideoDeleted):
        queue.submit(keyed.model_copy(update={"video_id": new_video_id()}))


def test_a_submit_repeated_after_a_lost_reply_changes_nothing(queue: JobQueue, submission: MakeSubmission) -> None:
    asked = submission()

    first, second = queue.submit(asked), queue.submit(asked)

    assert first == second
    assert queue.depth() == 1


def test_an_identical_request_is_completed_at_once_with_its_own_event(
    queue: JobQueue, redis: Redis, submission: MakeSubmission
) -> None:
    first = queue.submit(submission()).record
    claimed = claim(queue)
    queue.finish(claimed.lease, completed(claimed))

    hit = queue.submit(submission())

    assert hit.kind is SubmitKind.CACHED
    assert (hit.record.status, hit.record.cached) == ("completed", True)
    assert hit.record.asset is not None
    assert hit.record.asset.id == claimed.payload.asset_id
    assert events(redis) == [(first.id, "completed"), (hit.record.id, "completed")]
    assert queue.depth() == 0


def test_another_checkpoint_or_seed_is_not_answered_from_the_cache(queue: JobQueue, submission: MakeSubmission) -> None:
    queue.submit(submission())
    claimed = claim(queue)
    queue.finish(claimed.lease, completed(claimed))

    other_seed = queue.submit(submission(seed=5))
    other_checkpoint = queue.submit(submission().model_copy(update={"fingerprint": "0" * 64}))

    assert (other_seed.kind, other_checkpoint.kind) == (SubmitKind.QUEUED, SubmitKind.QUEUED)


def test_twins_share_one_job_and_each_gets_its_event(
    queue: JobQueue, store: VideoStore, redis: Redis, submission: MakeSubmission
) -> None:
    leader = queue.submit(submission()).record
    follower = queue.submit(submission())
    claimed = claim(queue)
    late_follower = queue.submit(submission())

    queue.finish(claimed.lease, completed(claimed))

    assert (follower.kind, late_follower.kind) == (SubmitKind.JOINED, SubmitKind.JOINED)
    ids = {leader.id, follower.record.id, late_follower.record.id}
    assert {store.get(id_).status for id_ in ids} == {"completed"}
    assert sorted(events(redis)) == sorted((id_, "completed") for id_ in ids)


def test_a_full_queue_refuses_with_retry_after(redis: Redis, settings: Settings, submission: MakeSubmission) -> None:
    queue = JobQueue(redis, settings.with_changes(max_queue_depth=2))
    for i, seconds in enumerate((40.0, 44.0)):
        queue.submit(submission(f"ball {i}").model_copy(update={"expected_seconds": seconds}))

    with pytest.raises(QueueFull) as error:
        queue.submit(submission("one too many"))

    assert (error.value.http_status, error.value.retryable) == (503, True)
    assert error.value.retry_after_seconds == 42
    assert redis.zcard("wanserve:videos:default") == 2
