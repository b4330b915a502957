"""Records, lists, cards and live workers on a real server."""

from collections.abc import Callable
from typing import Literal

import pytest
from redis import Connection, Redis
from redis import exceptions as redis_exceptions

from service.errors import InvalidRequest, ModelNotFound, NoModel, RecordUnreadable, VideoNotFound
from service.jobs.card import ModelCard
from service.jobs.execution import Outcome
from service.jobs.garbage import Garbage
from service.jobs.queue import JobQueue
from service.jobs.record import Asset, AssetFile, State, WorkerInfo, new_execution_id
from service.jobs.store import VideoStore
from service.jobs.submission import Submission
from tests.conftest import FINGERPRINT

MakeSubmission = Callable[..., Submission]


def complete_next(queue: JobQueue) -> Asset:
    claimed = queue.claim(worker="w1", fingerprint=FINGERPRINT, execution_id=new_execution_id())
    assert claimed is not None
    file = AssetFile(key="assets/a/video.mp4", content_type="video/mp4", size_bytes=9)
    asset = Asset(id=claimed.payload.asset_id, video=file, width=256, height=256, num_frames=17, fps=8)
    queue.finish(claimed.lease, Outcome.completed(asset, stage_durations={}, inference_time_seconds=1.0, worker="w1"))
    return asset


def expire_cache(redis: Redis, queue: JobQueue) -> None:
    """As when the entries' time is over."""
    for digest in redis.zrange("wanserve:cache-expiring", 0, -1):
        redis.zadd("wanserve:cache-expiring", {digest: 1})
    queue.expire()


def worker(name: str, model: str = "wan2.2-t2v-embedded") -> WorkerInfo:
    return WorkerInfo(name=name, model=model, device="cpu", started_at=1.0, host="h", pid=1)


def test_an_unknown_video_is_not_found(store: VideoStore) -> None:
    for call in (store.get, store.delete):
        with pytest.raises(VideoNotFound, match="no video video_x"):
            call("video_x")


def test_what_the_caller_said_comes_back(queue: JobQueue, store: VideoStore, submission: MakeSubmission) -> None:
    said = {"metadata": {"shot": "12"}, "file_name": "ball.mp4", "ignored": ("colour",)}
    video = queue.submit(submission().model_copy(update=said)).record

    found = store.get(video.id)

    assert (found.metadata, found.file_name, found.ignored) == ({"shot": "12"}, "ball.mp4", ("colour",))


def test_pages_follow_one_another_without_gaps(queue: JobQueue, store: VideoStore, submission: MakeSubmission) -> None:
    ids = [queue.submit(submission(f"ball {i}")).record.id for i in range(7)]

    first = store.list(limit=3)
    second = store.list(limit=3, after=first.records[-1].id)
    third = store.list(limit=3, after=second.records[-1].id)

    assert [record.id for page in (first, second, third) for record in page.records] == ids[::-1]
    assert [page.has_more for page in (first, second, third)] == [True, True, False]
    assert [record.id for record in store.list(order="asc", limit=100).records] == ids


def test_expired_records_are_left_out_of_lists(
    queue: JobQueue, store: VideoStore, redis: Redis, submission: MakeSubmission
) -> None:
    ids = [queue.submit(submission(f"ball {i}")).record.id for i in range(6)]
    for id_ in ids[2:5]:
        redis.delete(f"wanserve:video:{id_}")

    page = store.list(limit=2)

    assert [record.id for record in page.records] == [ids[5], ids[1]]
    assert page.has_more
    assert redis.zcard("wanserve:videos:default") < 6


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_page_follows_a_video_that_is_gone(
    queue: JobQueue, store: VideoStore, redis: Redis, submission: MakeSubmission, order: Literal["asc", "desc"]
) -> None:
    ids = [queue.submit(submission(f"ball {i}")).record.id for i in range(6)]
    if order == "desc":
        ids.reverse()
    store.delete(ids[1])
    redis.delete(f"wanserve:video:{ids[3]}")
    assert [record.id for record in store.list(order=order).records] == [ids[0], ids[2], ids[4], ids[5]]

    after_deleted = store.list(after=ids[1], limit=1, order=order)
    after_expired = store.list(after=ids[3], order=order)

    assert [record.id for record in after_deleted.records] == [ids[2]]
    assert after_deleted.has_more
    assert [record.id for record in after_expired.records] == [ids[4], ids[5]]


def test_an_unknown_cursor_is_named(store: VideoStore) -> None:
    with pytest.raises(InvalidRequest) as error:
        store.list(after="video_x")

    assert error.value.param == "after"


def test_deleting_a_waiting_video_cancels_it_with_its_event(
    queue: JobQueue, store: VideoStore, redis: Redis, submission: MakeSubmission
) -> None:
    video = queue.submit(submission()).record

    store.delete(video.id)

    assert queue.depth() == 0
    ((_, event),) = redis.xrange("wanserve:outbox")
    assert (event["video_id"], event["type"], event["state"]) == (video.id, "video.failed", "cancelled")
    assert store.list().records == ()


def test_files_are_free_when_the_last_reference_goes(
    queue: JobQueue, store: VideoStore, garbage: Garbage, redis: Redis, submission: MakeSubmission
) -> None:
    first = queue.submit(submission()).record
    asset = complete_next(queue)
    second = queue.submit(submission()).record

    store.delete(first.id)
    assert store.get(second.id).asset == asset
    store.delete(second.id)
    assert garbage.due() == []
    # The cache entry is a reference too.
    expire_cache(redis, queue)
    assert garbage.due() == [asset.video.key]
    assert redis.keys("wanserve:asset:*") == []


def test_a_delete_repeated_after_a_lost_reply_is_no_error(
    queue: JobQueue, store: VideoStore, redis: Redis, submission: MakeSubmission, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = queue.submit(submission()).record
    read_reply = redis.parse_response
    lost = []

    def lose_the_first_reply(connection: Connection, command: str, **options: object) -> object:
        reply = read_reply(connection, command, **options)
        if command == "EVALSHA" and not lost:
            lost.append(reply)
            raise redis_exceptions.ConnectionError
        return reply

    monkeypatch.setattr(redis, "parse_response", lose_the_first_reply)

    store.delete(video.id)

    assert len(lost) == 1
    with pytest.raises(VideoNotFound):
        store.delete(video.id)


def test_the_cache_keeps_the_files_of_a_deleted_video(
    queue: JobQueue, store: VideoStore, submission: MakeSubmission
) -> None:
    video = queue.submit(submission()).record
    complete_next(queue)

    store.delete(video.id)
    assert queue.submit(submission()).record.cached


def test_a_job_removed_with_rqs_tools_shows_as_failed(
    queue: JobQueue, store: VideoStore, redis: Redis, submission: MakeSubmission
) -> None:
    video = queue.submit(submission()).record
    redis.delete(f"rq:job:{video.job_id}", "rq:queue:standard")

    found = store.get(video.id)

    assert found.error is not None
    assert (found.state, found.error.code) == (State.FAILED, "job_removed")


def test_no_card_means_no_model_yet(store: VideoStore) -> None:
    with pytest.raises(NoModel) as error:
        store.card()

    assert (error.value.http_status, error.value.retry_after_seconds) == (503, 5)


def test_a_card_answers_to_its_aliases_and_outlives_its_worker(store: VideoStore, card: ModelCard) -> None:
    store.register_card(card)

    assert store.card() == store.card("EMBEDDED") == store.card("wan2.2-t2v-embedded") == card
    with pytest.raises(ModelNotFound, match=r"known are: wan2\.2-t2v-embedded") as error:
        store.card("sora-2")
    assert (error.value.code, error.value.param) == ("model_not_found", "model")


def test_cards_of_live_workers_come_first(store: VideoStore, card: ModelCard) -> None:
    store.register_card(card)
    store.register_card(card.model_copy(update={"id": "z-model", "aliases": ()}))
    store.report_alive(worker("w1", "z-model"), ttl_seconds=30)

    assert [known.id for known in store.cards()] == ["z-model", "wan2.2-t2v-embedded"]


def test_a_worker_is_live_until_it_leaves_or_goes_silent(
    store: VideoStore, redis: Redis, wait_until: Callable[..., None]
) -> None:
    store.report_alive(worker("w1"), ttl_seconds=60)
    store.report_alive(worker("w2"), ttl_seconds=0.05)
    wait_until(lambda: [info.name for info in store.live_workers()] == ["w1"])

    store.report_gone("w1")

    assert store.live_workers() == ()
    assert redis.scard("wanserve:workers") == 0


@pytest.mark.parametrize(
    "damage",
    [{"request": '{"schema_version": 99}'}, {"request": "not JSON"}, {"created_at": "soon"}, {"details": "[]"}],
)
def test_a_broken_record_says_so_and_hides_no_other(
    queue: JobQueue, store: VideoStore, redis: Redis, submission: MakeSubmission, damage: dict[str, str]
) -> None:
    whole, broken = (queue.submit(submission(f"ball {i}")).record for i in range(2))
    redis.hset(f"wanserve:video:{broken.id}", mapping=damage)

    with pytest.raises(RecordUnreadable):
        store.get(broken.id)
    with pytest.raises(VideoNotFound):
        store.get(broken.id, tenant="another")

    assert [record.id for record in store.list().records] == [whole.id]
    redis.hset(f"wanserve:video:{broken.id}", mapping={"request": broken.request.model_dump_json()})
    store.delete(broken.id)
    with pytest.raises(VideoNotFound):
        store.get(broken.id)
