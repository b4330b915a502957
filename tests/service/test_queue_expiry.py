"""What time does: deadlines, the end of records, and files that go with the last reference."""

from pathlib import Path

import pytest
from redis import Redis

from service.errors import ObjectNotFound, StorageUnavailable, VideoNotFound
from service.jobs.execution import Outcome, Progress, Signal, Verdict
from service.jobs.garbage import Garbage
from service.jobs.queue import JobQueue
from service.jobs.record import State, object_key
from service.jobs.store import VideoStore
from service.jobs.submission import SubmitKind
from service.storage import Storage
from service.sweeper import Sweeper
from tests.service.claims import MakeSubmission, claim, completed, events, lapse


def let_pass(redis: Redis, key: str) -> None:
    """Everything that key schedules is due."""
    for member in redis.zrange(key, 0, -1):
        redis.zadd(key, {member: 1})


def test_a_waiting_video_past_its_deadline_fails_with_its_event(
    queue: JobQueue, store: VideoStore, redis: Redis, submission: MakeSubmission
) -> None:
    video = queue.submit(submission().model_copy(update={"deadline_seconds": 60.0})).record
    assert queue.expire() == 0
    let_pass(redis, "wanserve:deadlines")

    assert queue.expire() == 1

    late = store.get(video.id)
    assert late.error is not None
    assert (late.state, late.status, late.error.code) == (State.EXPIRED, "failed", "deadline_exceeded")
    assert events(redis) == [(video.id, "expired")]
    assert (queue.depth(), queue.expire()) == (0, 0)


def test_a_running_video_past_its_deadline_stops(queue: JobQueue, redis: Redis, submission: MakeSubmission) -> None:
    video = queue.submit(submission().model_copy(update={"deadline_seconds": 60.0})).record
    claimed = claim(queue)
    assert claimed.payload.deadline_seconds == 60
    let_pass(redis, "wanserve:deadlines")
    queue.expire()

    progress = Progress(stage="denoise", step=3, num_steps=20, percent=15)
    assert queue.report(claimed.lease, progress) is Signal.CANCEL
    assert queue.finish(claimed.lease, Outcome.cancelled()) is Verdict.COMMITTED
    assert events(redis) == [(video.id, "expired")]


def test_a_follower_with_more_time_keeps_the_job(
    queue: JobQueue, store: VideoStore, redis: Redis, submission: MakeSubmission
) -> None:
    hasty = queue.submit(submission().model_copy(update={"deadline_seconds": 60.0})).record
    patient = queue.submit(submission()).record
    let_pass(redis, "wanserve:deadlines")
    queue.expire()

    claimed = claim(queue)
    queue.finish(claimed.lease, completed(claimed))

    assert (store.get(hasty.id).state, store.get(patient.id).state) == (State.EXPIRED, State.COMPLETED)


def test_a_video_completed_in_time_is_not_late(queue: JobQueue, redis: Redis, submission: MakeSubmission) -> None:
    queue.submit(submission().model_copy(update={"deadline_seconds": 60.0}))
    claimed = claim(queue)
    queue.finish(claimed.lease, completed(claimed))

    assert redis.zcard("wanserve:deadlines") == 0


def test_record_and_reference_go_together(
    queue: JobQueue, store: VideoStore, garbage: Garbage, redis: Redis, submission: MakeSubmission
) -> None:
    video = queue.submit(submission()).record
    claimed = claim(queue)
    queue.finish(claimed.lease, completed(claimed))
    let_pass(redis, "wanserve:cache-expiring")
    assert queue.expire() == 1
    assert garbage.due() == []

    let_pass(redis, "wanserve:expiring")
    assert queue.expire() == 1

    with pytest.raises(VideoNotFound):
        store.get(video.id)
    assert store.list().records == ()
    assert garbage.due() == [f"assets/{claimed.payload.asset_id}/x/video.mp4"]
    assert queue.expire() == 0


def test_the_least_recently_used_results_leave_a_full_cache(
    redis: Redis, queue: JobQueue, store: VideoStore, garbage: Garbage, submission: MakeSubmission
) -> None:
    small = JobQueue(redis, queue._settings.with_changes(cache_gigabytes=20e-9))
    keys = []
    for prompt in ("one", "two", "three"):
        video = small.submit(submission(prompt)).record
        claimed = claim(small)
        # Nine bytes each.
        small.finish(claimed.lease, completed(claimed))
        keys.append(store.get(video.id))
        store.delete(video.id)
        if prompt == "two":
            assert small.submit(submission("one")).kind is SubmitKind.CACHED

    kinds = {prompt: small.submit(submission(prompt)).kind for prompt in ("one", "two", "three")}

    assert kinds == {"one": SubmitKind.CACHED, "two": SubmitKind.QUEUED, "three": SubmitKind.CACHED}
    assert keys[1].asset is not None
    assert garbage.due() == [keys[1].asset.video.key]
    assert redis.get("wanserve:cache-bytes") == "18"


def test_a_cache_without_room_keeps_nothing(redis: Redis, queue: JobQueue, submission: MakeSubmission) -> None:
    without = JobQueue(redis, queue._settings.with_changes(cache_gigabytes=0))
    without.submit(submission())
    claimed = claim(without)
    without.finish(claimed.lease, completed(claimed))

    assert without.submit(submission()).kind is SubmitKind.QUEUED


def test_a_request_may_go_round_the_cache(queue: JobQueue, submission: MakeSubmission) -> None:
    queue.submit(submission())
    claimed = claim(queue)
    queue.finish(claimed.lease, completed(claimed))
    bypass = {"uses_cache": False}

    first = queue.submit(submission().model_copy(update=bypass))
    second = queue.submit(submission().model_copy(update=bypass))

    assert (first.kind, second.kind) == (SubmitKind.QUEUED, SubmitKind.QUEUED)
    assert queue.submit(submission()).kind is SubmitKind.CACHED


def test_files_of_a_lost_commit_are_garbage(
    queue: JobQueue, garbage: Garbage, redis: Redis, submission: MakeSubmission
) -> None:
    video = queue.submit(submission()).record
    claimed = claim(queue)
    outcome = completed(claimed)
    assert outcome.asset is not None
    garbage.announce(outcome.asset.video.key)
    assert garbage.due() == []
    queue.cancel(video.id)

    assert queue.finish(claimed.lease, outcome) is Verdict.LOST

    assert garbage.due() == [outcome.asset.video.key]


def test_files_of_a_commit_are_no_garbage(
    queue: JobQueue, garbage: Garbage, redis: Redis, submission: MakeSubmission
) -> None:
    queue.submit(submission())
    claimed = claim(queue)
    outcome = completed(claimed)
    assert outcome.asset is not None
    garbage.announce(outcome.asset.video.key)

    queue.finish(claimed.lease, outcome)
    queue.finish(claimed.lease, outcome)

    assert redis.zcard("wanserve:garbage") == 0


def test_a_sweep_removes_what_is_due_and_nothing_else(
    garbage: Garbage, storage: Storage, redis: Redis, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    for key in ("assets/a", "assets/b", "assets/c"):
        storage.put_file(key, file, content_type="video/mp4")
    garbage.announce("assets/a", "assets/b", "assets/gone", seconds=0)
    garbage.announce("assets/c")

    sweeper = Sweeper(garbage, storage)

    assert (sweeper.sweep(), sweeper.sweep()) == (3, 0)
    storage.stat("assets/c")
    for key in ("assets/a", "assets/b"):
        with pytest.raises(ObjectNotFound):
            storage.stat(key)


def test_a_sweep_that_failed_is_done_again(
    garbage: Garbage, storage: Storage, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    garbage.announce("assets/a", seconds=0)

    def fail(_keys: object) -> None:
        raise StorageUnavailable("The object store does not answer.")

    with monkeypatch.context() as patched:
        patched.setattr(storage, "delete", fail)
        with pytest.raises(StorageUnavailable):
            Sweeper(garbage, storage).sweep()

    assert Sweeper(garbage, storage).sweep() == 1


def test_an_outage_longer_than_an_announcement_costs_no_file(
    queue: JobQueue, garbage: Garbage, redis: Redis, submission: MakeSubmission
) -> None:
    """Redis was away for hours: the sweep came before the worker's commit, and removed what the record then named."""
    queue.submit(submission())
    claimed = claim(queue)
    key = object_key(claimed.payload.asset_id, claimed.lease.execution_id, "video.mp4")
    garbage.announce(key, seconds=-1)
    assert garbage.due() == []

    lapse(redis, claimed.lease)
    queue.reclaim()
    let_pass(redis, "wanserve:garbage")
    assert garbage.due() == [key]
