"""The queue's scripts on a real server."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis

from service.errors import IdempotencyMismatch, QueueFull, QueueUnavailable, ReplayedVideoDeleted, VideoNotFound
from service.jobs.connection import connect
from service.jobs.queue import JobQueue
from service.jobs.record import (
    Asset,
    AssetFile,
    Claim,
    Lease,
    Outcome,
    Progress,
    Signal,
    State,
    Submission,
    SubmitKind,
    Verdict,
    new_execution_id,
    new_video_id,
)
from service.jobs.store import VideoStore
from service.settings import Settings
from tests.conftest import FINGERPRINT

MakeSubmission = Callable[..., Submission]
OTHER_FINGERPRINT = "0" * 64


def claim(queue: JobQueue, worker: str = "w1") -> Claim:
    claimed = queue.claim(worker=worker, fingerprint=FINGERPRINT, execution_id=new_execution_id())
    assert claimed is not None
    return claimed


def completed(claimed: Claim) -> Outcome:
    request = claimed.payload.request
    file = AssetFile(key=f"assets/{claimed.payload.asset_id}/x/video.mp4", content_type="video/mp4", size_bytes=9)
    asset = Asset(
        id=claimed.payload.asset_id,
        video=file,
        width=request.delivery_width,
        height=request.delivery_height,
        num_frames=request.num_frames,
        fps=request.fps,
    )
    return Outcome.completed(asset, stage_durations={"total": 1.0}, inference_time_seconds=0.9, worker="w1")


def events(redis: Redis) -> list[tuple[str, str]]:
    """(video id, state) of every event in the outbox."""
    return [(fields["video_id"], fields["state"]) for _, fields in redis.xrange("wanserve:outbox")]


def lapse(redis: Redis, lease: Lease) -> None:
    """Let a lease run out now."""
    redis.zadd("wanserve:leases", {f"{lease.job_id}:{lease.execution_id}": 1})


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


def test_jobs_are_claimed_in_the_order_of_their_requests(queue: JobQueue, submission: MakeSubmission) -> None:
    videos = [queue.submit(submission(f"a ball number {i}")).record for i in range(5)]

    assert [video.queue_position for video in videos] == [0, 1, 2, 3, 4]
    assert [claim(queue).lease.job_id for _ in videos] == [video.job_id for video in videos]
    assert queue.claim(worker="w1", fingerprint=FINGERPRINT, execution_id=new_execution_id()) is None


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
    assert redis.zcard("wanserve:videos") == 1


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


def test_a_full_queue_refuses_with_retry_after(redis: Redis, settings: Settings, submission: MakeSubmission) -> None:
    queue = JobQueue(redis, settings.with_changes(max_queue_depth=2))
    for i in range(2):
        queue.submit(submission(f"ball {i}"))

    with pytest.raises(QueueFull) as error:
        queue.submit(submission("one too many").model_copy(update={"expected_seconds": 42.0}))

    assert (error.value.http_status, error.value.retryable) == (503, True)
    assert error.value.retry_after_seconds == 42
    assert redis.zcard("wanserve:videos") == 2


def test_a_claim_repeated_after_a_lost_reply_gives_the_same_job(queue: JobQueue, submission: MakeSubmission) -> None:
    for i in range(2):
        queue.submit(submission(f"ball {i}"))
    execution_id = new_execution_id()

    first = queue.claim(worker="w1", fingerprint=FINGERPRINT, execution_id=execution_id)
    second = queue.claim(worker="w1", fingerprint=FINGERPRINT, execution_id=execution_id)

    assert first == second
    assert queue.depth() == 1


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


def test_a_submit_wakes_a_waiting_worker(queue: JobQueue, submission: MakeSubmission) -> None:
    assert not queue.wait_for_work(fingerprint=FINGERPRINT, timeout_seconds=0.05)
    queue.submit(submission())
    assert queue.wait_for_work(fingerprint=FINGERPRINT, timeout_seconds=5)


def test_jobs_of_another_checkpoint_keep_their_places(
    queue: JobQueue, store: VideoStore, submission: MakeSubmission
) -> None:
    others = [submission(f"ball {i}").model_copy(update={"fingerprint": OTHER_FINGERPRINT}) for i in range(3)]
    waiting = [queue.submit(other).record for other in others]
    mine = queue.submit(submission()).record

    assert claim(queue).lease.job_id == mine.job_id

    assert queue.claim(worker="w1", fingerprint=FINGERPRINT, execution_id=new_execution_id()) is None
    assert [store.get(video.id).queue_position for video in waiting] == [0, 1, 2]
    first = queue.claim(worker="w2", fingerprint=OTHER_FINGERPRINT, execution_id=new_execution_id())
    assert first is not None
    assert first.lease.job_id == waiting[0].job_id


def test_many_jobs_without_a_worker_do_not_block_the_others(
    queue: JobQueue, redis: Redis, submission: MakeSubmission
) -> None:
    for i in range(130):
        queue.submit(submission(f"ball {i}").model_copy(update={"fingerprint": OTHER_FINGERPRINT}))
        if i % 20 == 0:
            redis.lpush("rq:queue:standard", f"gone_{i}")
    mine = queue.submit(submission()).record

    assert claim(queue).lease.job_id == mine.job_id

    assert queue.depth() == 130


def test_a_job_wakes_only_workers_of_its_checkpoint(queue: JobQueue, redis: Redis, submission: MakeSubmission) -> None:
    queue.submit(submission())
    claimed = claim(queue)
    assert queue.claim(worker="w1", fingerprint=FINGERPRINT, execution_id=new_execution_id()) is None
    for _ in range(2):
        # First the job comes back after its worker's death, then a new one comes.
        lapse(redis, claimed.lease)
        if not queue.reclaim():
            queue.submit(submission("another"))
        assert not queue.wait_for_work(fingerprint=OTHER_FINGERPRINT, timeout_seconds=0.05)
        assert queue.wait_for_work(fingerprint=FINGERPRINT, timeout_seconds=5)


def test_a_payload_of_another_version_fails_instead_of_blocking_the_queue(
    queue: JobQueue, store: VideoStore, redis: Redis, submission: MakeSubmission
) -> None:
    video = queue.submit(submission()).record
    redis.hset(f"rq:job:{video.job_id}", "payload", '{"schema_version": 99}')

    assert queue.claim(worker="w1", fingerprint=FINGERPRINT, execution_id=new_execution_id()) is None

    error = store.get(video.id).error
    assert error is not None
    assert error.code == "incompatible_job"


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
