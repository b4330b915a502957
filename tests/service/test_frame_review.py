"""Finished videos that wait for a person's look: nobody gets them before, and nothing of them stays when nobody may."""

from collections.abc import Callable

import pytest
from redis import Redis

from service.errors import Conflict, ReviewNotFound
from service.jobs.execution import Claim, Finding, Lease, Verdict
from service.jobs.garbage import Garbage
from service.jobs.operations import Operations
from service.jobs.queue import JobQueue
from service.jobs.record import State
from service.jobs.reviews import TIME_OUT, Review, Reviews
from service.jobs.store import VideoStore
from service.jobs.submission import Submission, SubmitKind
from service.settings import Settings
from tests.service.claims import MakeSubmission, claim, completed, events

FINDING = Finding(category="sexual", score=0.93)


@pytest.fixture
def reviews(redis: Redis, settings: Settings) -> Reviews:
    return Reviews(redis, settings)


@pytest.fixture
def hold(queue: JobQueue) -> Callable[[Submission], tuple[str, Claim]]:
    """hold(submission) submits, and finishes it as a worker does whose frame check found something."""

    def make(submission: Submission) -> tuple[str, Claim]:
        video = queue.submit(submission).record
        claimed = claim(queue)
        assert queue.finish(claimed.lease, completed(claimed), finding=FINDING) is Verdict.HELD
        return video.id, claimed

    return make


Hold = Callable[[Submission], tuple[str, Claim]]


def only(reviews: Reviews) -> Review:
    [[review], _] = reviews.list()
    return review


def left_of(redis: Redis) -> list[str]:
    kinds = ("asset:", "review:", "reserved", "reviews:", "leases", "flight:", "job:", "preview:", "cache:")
    return [key for kind in kinds for key in redis.keys(f"wanserve:{kind}*")]


def test_a_held_video_is_in_progress_without_files_or_event(
    hold: Hold, reviews: Reviews, store: VideoStore, queue: JobQueue, redis: Redis, submission: MakeSubmission
) -> None:
    video_id, claimed = hold(submission())

    video = store.get(video_id)
    assert (video.status, video.state, video.review) == ("in_progress", State.FINISHING, "pending")
    assert (video.asset, video.percent, video.stage, video.is_held) == (None, 99, "review", True)
    assert events(redis) == []
    assert queue.num_running() == 0
    assert redis.hlen("wanserve:reserved") == 0
    assert Garbage(redis).due() == []
    review = only(reviews)
    assert (review.stage, review.category, review.score, review.video_ids) == ("frames", "sexual", 0.93, (video_id,))
    assert review.asset is not None
    assert review.asset.id == claimed.payload.asset_id
    assert queue.has_ended(claimed.lease)


def test_an_approved_one_is_completed_once_and_cached(
    hold: Hold, reviews: Reviews, store: VideoStore, queue: JobQueue, redis: Redis, submission: MakeSubmission
) -> None:
    video_id, claimed = hold(submission())

    decided = reviews.approve(only(reviews).id, by="ann")

    assert (decided.state, decided.asset) == ("approved", None)
    video = store.get(video_id)
    assert (video.state, video.percent, video.review) == (State.COMPLETED, 100, "approved")
    assert video.asset == completed(claimed).asset
    assert events(redis) == [(video_id, "completed")]
    assert queue.submit(submission()).kind is SubmitKind.CACHED
    with pytest.raises(Conflict, match="approved"):
        reviews.reject(decided.id, by="bob", reason="no")
    assert redis.hget(f"rq:job:{claimed.lease.job_id}", "status") == "finished"
    assert redis.xlen(f"rq:results:{claimed.lease.job_id}") == 1
    assert Garbage(redis).due() == []


def test_a_rejected_one_fails_and_its_objects_go(
    hold: Hold, reviews: Reviews, store: VideoStore, queue: JobQueue, redis: Redis, submission: MakeSubmission
) -> None:
    video_id, claimed = hold(submission())

    reviews.reject(only(reviews).id, by="ann", reason="It shows skin.")

    video = store.get(video_id)
    assert video.error is not None
    assert (video.error.code, video.review, video.asset) == ("rejected_by_review", "rejected", None)
    assert "It shows skin." in video.error.message
    assert events(redis) == [(video_id, "failed")]
    assert Garbage(redis).due() == [file.key for file in files_of(claimed)]
    assert queue.submit(submission()).kind is SubmitKind.QUEUED


@pytest.mark.parametrize("how", ["cancel", "delete", "deadline", "operator"])
def test_what_nobody_wants_any_more_leaves_nothing_behind(
    hold: Hold,
    reviews: Reviews,
    store: VideoStore,
    queue: JobQueue,
    redis: Redis,
    submission: MakeSubmission,
    how: str,
) -> None:
    video_id, claimed = hold(submission().model_copy(update={"deadline_seconds": 1000.0}))
    review = only(reviews)

    match how:
        case "cancel":
            queue.cancel(video_id)
        case "delete":
            store.delete(video_id)
        case "deadline":
            redis.zadd("wanserve:deadlines", {video_id: 1})
            queue.expire()
        case _:
            Operations(redis).fail(claimed.lease.job_id, reason="Closed.")

    assert Garbage(redis).due() == [file.key for file in files_of(claimed)]
    assert reviews.get(review.id).state == "withdrawn"
    assert reviews.list()[0] == ()
    assert len(events(redis)) == 1
    assert left_of(redis) == [f"wanserve:review:{review.id}"]


def test_twins_share_the_look_also_those_that_come_while_it_is_pending(
    hold: Hold, reviews: Reviews, store: VideoStore, queue: JobQueue, redis: Redis, submission: MakeSubmission
) -> None:
    first, _ = hold(submission())

    late = queue.submit(submission())
    assert (late.kind, late.record.is_held) == (SubmitKind.JOINED, True)
    queue.cancel(first)
    assert store.get(late.record.id).is_held

    reviews.approve(only(reviews).id, by="ann")
    assert store.get(late.record.id).state is State.COMPLETED
    assert sorted(events(redis)) == sorted([(first, "cancelled"), (late.record.id, "completed")])


def test_a_worker_that_asks_again_is_told_the_same(
    hold: Hold, queue: JobQueue, reviews: Reviews, redis: Redis, submission: MakeSubmission
) -> None:
    _, claimed = hold(submission())
    assert queue.finish(claimed.lease, completed(claimed), finding=FINDING) is Verdict.HELD
    other = Lease(job_id=claimed.lease.job_id, execution_id="late")
    assert queue.finish(other, completed(claimed)) is Verdict.LOST

    reviews.approve(only(reviews).id, by="ann")

    assert queue.finish(claimed.lease, completed(claimed), finding=FINDING) is Verdict.ALREADY_MINE


def test_a_tenant_without_reviewers_gets_a_failure_instead(
    queue: JobQueue, store: VideoStore, reviews: Reviews, redis: Redis, submission: MakeSubmission
) -> None:
    video = queue.submit(submission().model_copy(update={"frames": "never"})).record
    claimed = claim(queue)

    assert queue.finish(claimed.lease, completed(claimed), finding=FINDING) is Verdict.REFUSED

    failed = store.get(video.id).error
    assert failed is not None
    assert (failed.code, "sexual content" in failed.message) == ("moderation_blocked", True)
    assert Garbage(redis).due() == [file.key for file in files_of(claimed)]
    assert reviews.list()[0] == ()


def test_a_tenant_may_have_every_finished_video_looked_at(
    queue: JobQueue, reviews: Reviews, store: VideoStore, submission: MakeSubmission
) -> None:
    unseen = queue.submit(submission()).record
    video = queue.submit(submission().model_copy(update={"frames": "everything"})).record
    assert video.job_id != unseen.job_id
    claims = [claim(queue), claim(queue)]

    verdicts = {made.lease.job_id: queue.finish(made.lease, completed(made)) for made in claims}

    assert verdicts == {unseen.job_id: Verdict.COMMITTED, video.job_id: Verdict.HELD}
    assert only(reviews).category == "everything"
    # What nobody looked at is in the cache by now, and answers none of these.
    assert queue.submit(submission().model_copy(update={"frames": "everything"})).kind is SubmitKind.JOINED


def test_prompt_and_frames_are_two_looks_at_one_video(
    queue: JobQueue, reviews: Reviews, store: VideoStore, redis: Redis, submission: MakeSubmission
) -> None:
    video = queue.submit(submission().model_copy(update={"review": "hate"})).record
    reviews.approve(only(reviews).id, by="ann")
    claimed = claim(queue)
    queue.finish(claimed.lease, completed(claimed), finding=FINDING)
    assert store.get(video.id).review == "pending"

    reviews.approve(only(reviews).id, by="bob")

    assert store.get(video.id).state is State.COMPLETED
    assert [review.stage for review in reviews.list(state="decided")[0]] == ["frames", "prompt"]
    assert [review.stage for review in reviews.list(state="decided", stage="prompt")[0]] == ["prompt"]
    assert [review.stage for review in reviews.list(state="decided", category="sexual")[0]] == ["frames"]


@pytest.mark.parametrize(("rule", "state"), [("reject", "failed"), ("approve", "completed")])
def test_nobody_looking_in_time_is_decided_by_the_settings(
    hold: Hold, redis: Redis, settings: Settings, store: VideoStore, submission: MakeSubmission, rule: str, state: str
) -> None:
    video_id, _ = hold(submission())
    told: list[str] = []
    late = only(Reviews(redis, settings)).created_at + settings.review_seconds + 1
    strict = settings.with_changes(review_timeout=rule, review_approvals=2)
    reviews = Reviews(redis, strict, on_decision=told.append, clock=lambda: late)

    assert reviews.end_overdue() == 1

    assert store.get(video_id).status == state
    assert reviews.list(state="decided")[0][0].decisions[0].by == TIME_OUT
    assert told == [f"{reviews.list(state='decided')[0][0].state}_by_timeout"]


def test_a_job_that_rqs_tools_removed_meanwhile_ends_at_the_decision(
    hold: Hold, reviews: Reviews, store: VideoStore, redis: Redis, submission: MakeSubmission
) -> None:
    video_id, claimed = hold(submission())
    redis.delete(f"rq:job:{claimed.lease.job_id}")

    with pytest.raises(Conflict, match="withdrawn"):
        reviews.approve(only(reviews).id, by="ann")

    failed = store.get(video_id).error
    assert failed is not None
    assert failed.code == "job_removed"
    assert Garbage(redis).due() == [file.key for file in files_of(claimed)]


def test_pages_are_read_by_time_and_go_on_after_one_that_was_decided(
    queue: JobQueue, reviews: Reviews, submission: MakeSubmission
) -> None:
    for i in range(7):
        tenant = "a" if i % 2 else "b"
        queue.submit(submission(f"ball {i}").model_copy(update={"review": "everything", "tenant": tenant}))
    everyone, has_more = reviews.list(limit=3)
    assert has_more

    reviews.approve(everyone[-1].id, by="ann")

    rest, has_more = reviews.list(after=everyone[-1].id, limit=4)
    assert ([review.created_at for review in rest], has_more) == (sorted(review.created_at for review in rest), False)
    assert len({review.id for review in (*everyone, *rest)}) == 7
    own, has_more = reviews.list(tenant="a", limit=2)
    assert ({review.tenant for review in own}, has_more) == ({"a"}, True)
    with pytest.raises(Exception, match="no such review"):
        reviews.list(tenant="b", after=own[-1].id)
    with pytest.raises(ReviewNotFound):
        reviews.approve(own[0].id, by="ann", tenant="b")


def files_of(claimed: Claim) -> tuple[object, ...]:
    asset = completed(claimed).asset
    assert asset is not None
    return asset.files
