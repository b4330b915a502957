"""What is known of a completed video lies in storage, however long Redis remembers it, and brings it back."""

import io
import json

import pytest
from redis import Redis

from service.errors import ObjectNotFound, StorageUnavailable
from service.jobs.catalogue import Catalogue
from service.jobs.execution import Outcome
from service.jobs.garbage import Garbage
from service.jobs.queue import JobQueue
from service.jobs.record import FilterVerdict, State, VideoRecord, Webhook, asset_id_in, object_key
from service.jobs.reviews import Reviews
from service.jobs.store import VideoStore
from service.jobs.watermark_ids import WatermarkIds
from service.provenance.rebuild import rebuild
from service.provenance.recorder import Recorder
from service.provenance.records import PREFIX, read_records, records_under
from service.settings import Settings
from service.storage import Storage
from service.sweeper import Sweeper
from tests.service.claims import MakeSubmission, claim, completed


@pytest.fixture
def recorder(redis: Redis, store: VideoStore, storage: Storage, settings: Settings) -> Recorder:
    return Recorder(redis, store, storage, settings)


@pytest.fixture
def finished(queue: JobQueue, store: VideoStore, storage: Storage, submission: MakeSubmission) -> VideoRecord:
    """A video, with its file in storage."""
    asked = submission().model_copy(
        update={
            "key_id": "k1",
            "review": "hate",
            "original_prompt": "a ball",
            "filter": FilterVerdict(action="review", category="hate", scores={"hate": 0.6}),
            "webhook": Webhook(url="https://example.com", events=("video.completed",), secret="whsec_very_secret"),
        }
    )
    video_id = queue.submit(asked).record.id
    Reviews(queue._redis, queue._settings).approve(asked.job_id, by="ann", reason="fine")
    finish(queue, storage)
    return store.get(video_id)


def finish(queue: JobQueue, storage: Storage) -> None:
    """The next job, with a file in storage."""
    claimed = claim(queue)
    outcome = completed(claimed)
    assert outcome.asset is not None
    key = object_key(claimed.payload.asset_id, claimed.lease.execution_id, "video.mp4")
    number = WatermarkIds(queue._redis).take(outcome.asset.id, key=queue._settings.watermark_keys()[0])
    asset = outcome.asset.model_copy(
        update={"watermark_id": number, "video": outcome.asset.video.model_copy(update={"key": key})}
    )
    put(storage, key)
    outcome = Outcome.completed(asset, stage_durations={}, inference_time_seconds=1, worker="w1", frames_score=0.02)
    queue.finish(claimed.lease, outcome)


def put(storage: Storage, key: str) -> None:
    storage.put_stream(key, io.BytesIO(b"pictures"), content_type="video/mp4")


def test_record_tells_who_asked_for_what_and_who_approved_it_and_no_secret(
    recorder: Recorder, storage: Storage, finished: VideoRecord
) -> None:
    assert recorder.record() == 1

    assert finished.asset is not None
    [record] = read_records(storage, finished.asset.id)
    assert (record.video_id, record.tenant, record.key_id, record.kind) == (finished.id, "default", "k1", "queued")
    assert (record.request, record.original_prompt, record.asset) == (finished.request, "a ball", finished.asset)
    assert record.filter == FilterVerdict(action="review", category="hate", scores={"hate": 0.6})
    assert record.frames_score == 0.02
    [review] = record.reviews
    assert (review.stage, review.category, review.state) == ("prompt", "hate", "approved")
    assert [(decision.by, decision.reason) for decision in review.decisions] == [("ann", "fine")]
    assert b"whsec" not in b"".join(storage.read(record.key))
    assert recorder.record() == 0


def test_every_video_of_a_file_has_a_record_cached_and_deleted_ones_too(
    recorder: Recorder,
    queue: JobQueue,
    store: VideoStore,
    storage: Storage,
    submission: MakeSubmission,
) -> None:
    first, twin = (queue.submit(submission()).record.id for _ in range(2))
    finish(queue, storage)
    cached = queue.submit(submission()).record.id
    store.delete(twin)

    recorder.record()

    records = {record.video_id: record.kind for record in records_under(storage)}
    assert records == {first: "queued", twin: "joined", cached: "cached"}


def test_store_that_is_away_delays_records_and_a_damaged_one_holds_up_nobody(
    redis: Redis,
    store: VideoStore,
    storage: Storage,
    settings: Settings,
    finished: VideoRecord,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    redis.hset("wanserve:unrecorded", "video_damaged", "{}")
    recorder = Recorder(redis, store, storage, settings)
    with monkeypatch.context() as away:
        away.setattr(storage, "put_stream", lambda *_, **__: (_ for _ in ()).throw(StorageUnavailable("away")))
        with pytest.raises(StorageUnavailable):
            recorder.record()

    recorder.record()

    assert [record.video_id for record in records_under(storage)] == [finished.id]
    assert redis.hlen("wanserve:unrecorded") == 0


@pytest.mark.parametrize(("rule", "stays"), [("keep", True), ("with_files", False)])
def test_rule_says_whether_a_record_outlives_its_file(
    redis: Redis,
    store: VideoStore,
    storage: Storage,
    settings: Settings,
    finished: VideoRecord,
    rule: str,
    stays: bool,  # noqa: FBT001
) -> None:
    recorder = Recorder(redis, store, storage, settings.with_changes(provenance_records=rule, cache_gigabytes=0))
    recorder.record()
    for cached in redis.scan_iter("wanserve:cache:*"):
        redis.delete(cached)
    assert finished.asset is not None
    redis.srem(f"wanserve:asset:{finished.asset.id}:references", *_cache_references(redis, finished.asset.id))
    sweeper = Sweeper(Garbage(redis), storage, on_gone=recorder.files_are_gone)

    sweeper.sweep()
    assert len(list(storage.keys(PREFIX))) == 1
    store.delete(finished.id)
    sweeper.sweep()

    with pytest.raises(ObjectNotFound):
        storage.stat(finished.asset.video.key)
    assert bool(list(storage.keys(PREFIX))) is stays
    assert finished.asset.watermark_id is not None
    assert (WatermarkIds(redis).asset_of(finished.asset.watermark_id) is not None) is stays


def test_number_of_a_file_that_never_was_is_free_again(
    redis: Redis, store: VideoStore, storage: Storage, settings: Settings
) -> None:
    ids, [key] = WatermarkIds(redis), settings.watermark_keys()
    number = ids.take("asset_a", key=key)
    Garbage(redis).announce(object_key("asset_a", "e", "video.mp4"), seconds=0)
    recorder = Recorder(redis, store, storage, settings.with_changes(provenance_records="with_files"))

    Sweeper(Garbage(redis), storage, on_gone=recorder.files_are_gone).sweep()

    assert ids.asset_of(number) is None


def _cache_references(redis: Redis, asset_id: str) -> list[str]:
    names = redis.smembers(f"wanserve:asset:{asset_id}:references")
    return [name for name in names if name.startswith("cache:")]  # type: ignore[union-attr]


def test_without_records_none_is_written(
    redis: Redis, store: VideoStore, storage: Storage, settings: Settings, finished: VideoRecord
) -> None:
    Recorder(redis, store, storage, settings.with_changes(provenance_records="off")).record()
    assert list(storage.keys(PREFIX)) == []


def test_emptied_redis_gets_its_finished_videos_back(
    redis: Redis, recorder: Recorder, store: VideoStore, storage: Storage, finished: VideoRecord
) -> None:
    recorder.record()
    redis.flushdb()

    first = rebuild(Catalogue(redis), WatermarkIds(redis), storage)
    again = rebuild(Catalogue(redis), WatermarkIds(redis), storage)

    assert (first.num_restored, first.num_there, first.num_gone) == (1, 0, 0)
    assert (again.num_restored, again.num_there, again.num_gone) == (0, 1, 0)
    back = store.get(finished.id)
    assert back.state is State.COMPLETED
    assert (back.asset, back.request, back.expires_at) == (finished.asset, finished.request, finished.expires_at)
    assert [video.id for video in store.list().records] == [finished.id]
    assert back.asset is not None
    assert back.asset.watermark_id is not None
    assert WatermarkIds(redis).asset_of(back.asset.watermark_id) == back.asset.id
    # Its file is removed with it, as before.
    store.delete(finished.id)
    Sweeper(Garbage(redis), storage).sweep()
    with pytest.raises(ObjectNotFound):
        storage.stat(back.asset.video.key)


def test_what_is_over_does_not_come_back(
    redis: Redis, recorder: Recorder, store: VideoStore, storage: Storage, finished: VideoRecord
) -> None:
    recorder.record()
    redis.flushdb()
    assert finished.expires_at is not None
    late = finished.expires_at + 1

    expired = rebuild(Catalogue(redis), WatermarkIds(redis), storage, clock=lambda: late)
    assert finished.asset is not None
    storage.delete([finished.asset.video.key])
    gone = rebuild(Catalogue(redis), WatermarkIds(redis), storage)

    assert (expired.num_gone, gone.num_gone) == (1, 1)
    assert store.list().records == ()


def test_record_of_a_newer_version_is_left_out(recorder: Recorder, storage: Storage, finished: VideoRecord) -> None:
    recorder.record()
    assert finished.asset is not None
    [record] = read_records(storage, finished.asset.id)
    newer = json.loads(record.model_dump_json()) | {"schema_version": 2}
    storage.put_stream(record.key, io.BytesIO(json.dumps(newer).encode()), content_type="application/json")
    assert read_records(storage, finished.asset.id) == ()


@pytest.mark.parametrize(
    ("key", "asset_id"),
    [("assets/a/e/video.mp4", "a"), ("checkpoints/j/e-1.safetensors", None), ("files/a/b/c", None)],
)
def test_only_a_files_key_leads_to_an_asset(key: str, asset_id: str | None) -> None:
    assert asset_id_in(key) == asset_id
