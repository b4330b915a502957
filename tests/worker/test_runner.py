"""What becomes of a job, on the real queue, store and engine."""

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from c2pa import Reader
from PIL import Image
from redis import Redis
from structlog.testing import capture_logs

from model.engine import Engine
from model.errors import EngineError, InvalidParams, NotFinite, OutOfMemory
from model.params import GenerationParams
from model.request import Request
from service.errors import ObjectNotFound, QueueRefused
from service.jobs.card import ModelCard
from service.jobs.execution import Finding, Lease, Outcome, Progress
from service.jobs.queue import JobQueue
from service.jobs.record import Parent, State, VideoRecord, VisibleLabel, object_key
from service.jobs.request import parse, resolve
from service.jobs.store import VideoStore
from service.jobs.submission import Submission
from service.jobs.watermark_ids import WatermarkIds
from service.logos import keep_logo
from service.metrics import STAGES
from service.provenance.notary import Notary
from service.provenance.watermark_reader import read_watermark
from service.settings import Settings
from service.storage import Storage
from tests.worker.claims import run_to_end
from worker.endings import DeviceLost
from worker.held import HeldJob
from worker.inbox import Inbox
from worker.runner import JobRunner
from worker.shutdown import Shutdown

Submit = Callable[..., str]
MakeRunner = Callable[..., JobRunner]


def claim(inbox: Inbox) -> HeldJob:
    held = inbox.next_job(wait_seconds=5)
    assert held is not None
    return held


def video_bytes(storage: Storage, record: VideoRecord) -> bytes:
    assert record.asset is not None
    return b"".join(storage.read(record.asset.video.key))


def has_object(storage: Storage, held: HeldJob, name: str = "video.mp4") -> bool:
    try:
        storage.stat(object_key(held.claim.payload.asset_id, held.claim.lease.execution_id, name))
    except ObjectNotFound:
        return False
    return True


def test_job_becomes_a_completed_video_with_a_file_that_plays(
    submit: Submit, inbox: Inbox, runner: JobRunner, store: VideoStore, storage: Storage
) -> None:
    video_id = submit("a red circle", seed=5)
    run_to_end(runner, claim(inbox))
    record = store.get(video_id)
    assert record.state is State.COMPLETED
    with av.open(io.BytesIO(video_bytes(storage, record))) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert container.metadata["seed"] == "5"
        assert record.asset is not None
        assert container.metadata["asset_id"] == record.asset.id
    assert len(frames) == 5
    assert frames[0].shape == (256, 256, 3)


def test_label_is_seen_in_the_file_and_its_previews(
    queue: JobQueue, real_card: ModelCard, inbox: Inbox, runner: JobRunner, store: VideoStore, storage: Storage
) -> None:
    picture = io.BytesIO()
    Image.new("RGBA", (20, 20), (0, 255, 0, 255)).save(picture, "PNG")
    label = VisibleLabel(text="AI生成", position="bottom-right", logo=keep_logo(storage, picture.getvalue()))
    resolved = resolve(parse({"num_inference_steps": 2, "num_frames": 5, "prompt": "a red circle"}), real_card)
    request = resolved.request.model_copy(update={"visible_label": label})
    submitted = queue.submit(Submission(request=request, fingerprint=real_card.fingerprint))

    run_to_end(runner, claim(inbox))

    record = store.get(submitted.record.id)
    assert record.asset is not None
    assert record.asset.thumbnail is not None
    with av.open(io.BytesIO(video_bytes(storage, record))) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with Image.open(io.BytesIO(b"".join(storage.read(record.asset.thumbnail.key)))) as thumbnail:
        pictures.append(np.asarray(thumbnail.convert("RGB").resize((256, 256))))
    for shown in pictures:
        corner = shown[-40:-4, -90:-4]
        assert (int(corner.min()) < 60, int(corner.max()) > 200) == (True, True)
        assert shown[18, 18].argmax() == 1


@pytest.mark.parametrize("is_gone", [False, True])
def test_remix_is_made_whether_its_original_is_still_there_or_not(
    submit: Submit,
    queue: JobQueue,
    real_card: ModelCard,
    inbox: Inbox,
    runner: JobRunner,
    store: VideoStore,
    storage: Storage,
    tmp_path: Path,
    *,
    is_gone: bool,
) -> None:
    original_id = submit("a red circle")
    run_to_end(runner, claim(inbox))
    original = store.get(original_id).asset
    assert original is not None
    if is_gone:
        storage.delete([original.video.key])
    resolved = resolve(parse({"num_inference_steps": 2, "num_frames": 5, "prompt": "a blue circle"}), real_card)
    parent = Parent(asset_id=original.id, key=original.video.key)
    asked = Submission(request=resolved.request, fingerprint=real_card.fingerprint, parent=parent)
    remix_id = queue.submit(asked).record.id

    run_to_end(runner, claim(inbox))

    file = tmp_path / "remix.mp4"
    file.write_bytes(video_bytes(storage, store.get(remix_id)))
    with Reader(str(file)) as reader:
        report = json.loads(reader.json())
    ingredients = report["manifests"][report["active_manifest"]].get("ingredients", [])
    assert [each["title"] for each in ingredients] == ([] if is_gone else [f"{original.id}.mp4"])


def test_pictures_carry_the_number_that_leads_to_their_asset(
    submit: Submit,
    inbox: Inbox,
    runner: JobRunner,
    store: VideoStore,
    storage: Storage,
    redis: Redis,
    settings: Settings,
) -> None:
    video_id = submit("a red circle")

    run_to_end(runner, claim(inbox))

    record = store.get(video_id)
    found = read_watermark(io.BytesIO(video_bytes(storage, record)), settings.watermark_keys())
    assert record.asset is not None
    assert found is not None
    assert found.id == record.asset.watermark_id
    assert WatermarkIds(redis).asset_of(found.id) == record.asset.id
    assert record.asset.revision == "r1"


def test_a_completed_record_tells_what_of_its_prompt_was_not_seen(
    submit: Submit, inbox: Inbox, runner: JobRunner, store: VideoStore
) -> None:
    short, long = submit("a red circle"), submit("a red circle " * 300)
    run_to_end(runner, claim(inbox))
    run_to_end(runner, claim(inbox))

    record = store.get(short)
    assert record.prompt_tokens is not None
    assert (3 <= record.prompt_tokens <= 8, record.prompt_tokens_cut) == (True, 0)
    record = store.get(long)
    assert record.prompt_tokens is not None
    assert record.prompt_tokens_cut == record.prompt_tokens - 512 > 300


def test_completed_record_tells_size_stages_and_memory(
    submit: Submit, inbox: Inbox, runner: JobRunner, store: VideoStore, storage: Storage
) -> None:
    video_id = submit()
    run_to_end(runner, claim(inbox))
    record = store.get(video_id)
    assert set(record.stage_durations) == set(STAGES)
    parts = sum(seconds for stage, seconds in record.stage_durations.items() if stage != "total")
    assert parts <= record.stage_durations["total"] + 0.01
    assert record.inference_time_seconds is not None
    assert record.peak_memory_mb is not None
    assert record.peak_memory_mb > 50
    assert record.asset is not None
    assert record.asset.video.size_bytes == len(video_bytes(storage, record))
    assert record.asset.thumbnail is not None
    picture = Image.open(io.BytesIO(b"".join(storage.read(record.asset.thumbnail.key))))
    assert (picture.format, picture.size) == ("WEBP", (256, 256))
    assert record.asset.spritesheet is not None
    sheet = Image.open(io.BytesIO(b"".join(storage.read(record.asset.spritesheet.key))))
    assert (sheet.format, sheet.size) == ("WEBP", (640, 320))


class TestWithoutWatermark:
    """Marks differ from video to video."""

    @pytest.fixture
    def notary(self, settings: Settings) -> Notary:
        return Notary(settings.with_changes(watermark="off"))

    def test_seed_decides_the_file(
        self, submit: Submit, inbox: Inbox, runner: JobRunner, store: VideoStore, storage: Storage, redis: Redis
    ) -> None:
        files = []
        for seed in (1, 1, 2):
            redis.flushall()  # or the second request would be answered from the cache
            video_id = submit("a red circle", seed=seed)
            run_to_end(runner, claim(inbox))
            with av.open(io.BytesIO(video_bytes(storage, store.get(video_id)))) as container:
                files.append([frame.to_ndarray().tobytes() for frame in container.decode(video=0)])
        assert files[0] == files[1]
        assert files[0] != files[2]


def test_identical_request_is_answered_without_the_worker(
    submit: Submit, inbox: Inbox, runner: JobRunner, store: VideoStore, queue: JobQueue
) -> None:
    first = submit("a red circle")
    run_to_end(runner, claim(inbox))
    second = store.get(submit("a red circle"))
    assert second.state is State.COMPLETED
    assert second.cached
    assert second.asset == store.get(first).asset
    assert queue.depth() == 0


class FailingEngine(Engine):
    """The real engine but for prepare(), or step() where it is told so."""

    def __init__(self, engine: Engine, error: Exception, *, at: str = "prepare") -> None:
        self.__dict__ |= engine.__dict__
        self._error = error
        self._at = at

    def prepare(self, params: GenerationParams) -> Request:
        if self._at == "prepare":
            raise self._error
        return super().prepare(params)

    def step(self, requests: Sequence[Request]) -> dict[Request, EngineError]:
        if self._at == "step":
            raise self._error
        return super().step(requests)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidParams("width is 7; give a multiple of 16."), "invalid_request"),
        (OutOfMemory("81 frames do not fit: ask for fewer."), "out_of_memory"),
        (NotFinite("Load the checkpoint with dtype bfloat16."), "generation_failed"),
    ],
)
def test_what_the_engine_refuses_is_told_to_the_client(
    error: Exception,
    code: str,
    submit: Submit,
    inbox: Inbox,
    make_runner: MakeRunner,
    engine: Engine,
    store: VideoStore,
) -> None:
    video_id = submit()
    run_to_end(make_runner(engine=FailingEngine(engine, error)), claim(inbox))
    record = store.get(video_id)
    assert record.state is State.FAILED
    assert record.error is not None
    assert (record.error.code, record.error.message) == (code, str(error))


def test_bug_is_tried_again_until_the_attempts_are_used_up_and_the_worker_lives_on(
    submit: Submit, inbox: Inbox, make_runner: MakeRunner, runner: JobRunner, engine: Engine, store: VideoStore
) -> None:
    doomed = submit("a red circle")
    broken = make_runner(engine=FailingEngine(engine, ZeroDivisionError("oops")))
    for _ in range(3):
        run_to_end(broken, claim(inbox))
    record = store.get(doomed)
    assert record.state is State.FAILED
    assert record.error is not None
    assert record.error.code == "attempts_exhausted"
    assert record.error.message.count("ZeroDivisionError") == 3
    assert "oops" not in record.error.message
    healthy = submit("a blue circle")
    run_to_end(runner, claim(inbox))
    assert store.get(healthy).state is State.COMPLETED


def test_lost_device_hands_the_job_back_and_ends_the_worker(
    submit: Submit, inbox: Inbox, make_runner: MakeRunner, engine: Engine, store: VideoStore
) -> None:
    video_id = submit()
    error = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    with pytest.raises(DeviceLost):
        run_to_end(make_runner(engine=FailingEngine(engine, error)), claim(inbox))
    assert store.get(video_id).state is State.QUEUED


class Interrupting(HeldJob):
    """Runs an action when denoising has done a step."""

    def __init__(self, held: HeldJob, action: Callable[[HeldJob], None]) -> None:
        super().__init__(held.claim)
        self._action = action

    def advance(self, progress: Progress) -> None:
        super().advance(progress)
        if progress.step == 1:
            self._action(self)


def test_cancelled_job_stops_and_leaves_no_file(
    submit: Submit, inbox: Inbox, runner: JobRunner, queue: JobQueue, store: VideoStore, storage: Storage
) -> None:
    video_id = submit()
    original = claim(inbox)

    def cancel(held: HeldJob) -> None:
        queue.cancel(video_id)
        held.signal = queue.report(held.claim.lease, held.progress)

    run_to_end(runner, Interrupting(original, cancel))
    assert store.get(video_id).state is State.CANCELLED
    assert queue.num_running() == 0
    assert not has_object(storage, original)


def test_result_of_a_lost_lease_is_deleted_and_the_other_workers_stays(
    submit: Submit,
    inbox: Inbox,
    runner: JobRunner,
    queue: JobQueue,
    store: VideoStore,
    storage: Storage,
    redis: Redis,
    wait_until: Callable[..., None],
) -> None:
    video_id = submit()
    slow = claim(inbox)

    def lose_the_lease(held: HeldJob) -> None:
        # This worker went silent; the next one took the job and is done already.
        redis.zadd("wanserve:leases", {f"{held.id}:{held.claim.lease.execution_id}": 1})
        assert [job.action for job in queue.reclaim()] == ["requeued"]
        fingerprint = held.claim.payload.fingerprint
        other = queue.claim(worker="other", fingerprint=fingerprint, execution_id="e" * 32)
        assert other is not None
        queue.finish(Lease(job_id=held.id, execution_id="e" * 32), Outcome.failed("other", "Made by the other."))

    run_to_end(runner, Interrupting(slow, lose_the_lease))
    error = store.get(video_id).error
    assert error is not None
    assert error.code == "other"
    assert not has_object(storage, slow)
    assert not has_object(storage, slow, "thumbnail.webp")
    assert not has_object(storage, slow, "spritesheet.webp")


def test_shutdown_hands_a_long_job_back_without_costing_an_attempt(
    submit: Submit, inbox: Inbox, runner: JobRunner, store: VideoStore, shutdown: Shutdown
) -> None:
    video_id = submit(num_inference_steps=100)
    held = claim(inbox)
    shutdown._grace_seconds = 0.2
    shutdown.request()
    run_to_end(runner, held)
    record = store.get(video_id)
    assert record.state is State.QUEUED
    assert record.attempt == 0


def test_full_disk_hands_the_job_to_the_next_attempt_and_leaves_nothing(
    submit: Submit, inbox: Inbox, runner: JobRunner, store: VideoStore, storage: Storage, scratch: Path
) -> None:
    video_id = submit()
    held = claim(inbox)
    # The file in the making is a link to a device that is always full.
    (scratch / f".{held.claim.payload.asset_id}.mp4.part").symlink_to("/dev/full")
    run_to_end(runner, held)
    assert store.get(video_id).state is State.QUEUED
    assert list(scratch.iterdir()) == []
    assert not has_object(storage, held)


def test_files_of_a_refused_commit_are_removed(
    submit: Submit,
    inbox: Inbox,
    runner: JobRunner,
    queue: JobQueue,
    storage: Storage,
    shutdown: Shutdown,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    submit()
    held = claim(inbox)

    def refuse(*_: object, **_named: object) -> None:
        shutdown._grace_seconds = 0
        shutdown.request()
        raise QueueRefused("The queue (Redis) fails: MISCONF.")

    monkeypatch.setattr(queue, "finish", refuse)
    run_to_end(runner, held)
    assert not has_object(storage, held)


@pytest.mark.parametrize("finding", [None, Finding(category="sexual", score=0.9)])
def test_files_of_a_commit_that_took_effect_stay_whatever_was_said_later(
    submit: Submit,
    inbox: Inbox,
    runner: JobRunner,
    queue: JobQueue,
    storage: Storage,
    shutdown: Shutdown,
    monkeypatch: pytest.MonkeyPatch,
    finding: Finding | None,
) -> None:
    submit()
    held = claim(inbox)
    finish = queue.finish

    def commit_and_refuse(lease: Lease, outcome: Outcome, **_named: object) -> None:
        finish(lease, outcome, finding=finding)
        shutdown._grace_seconds = 0
        shutdown.request()
        raise QueueRefused("The queue (Redis) fails: MISCONF.")

    monkeypatch.setattr(queue, "finish", commit_and_refuse)
    run_to_end(runner, held)
    assert has_object(storage, held)


def test_every_line_of_a_job_names_the_request_that_it_came_with(
    queue: JobQueue, real_card: ModelCard, inbox: Inbox, runner: JobRunner
) -> None:
    resolved = resolve(parse({"num_inference_steps": 2, "num_frames": 5, "prompt": "a red circle"}), real_card)
    queue.submit(Submission(request=resolved.request, fingerprint=real_card.fingerprint, request_id="req_7"))

    with capture_logs() as logs:
        run_to_end(runner, claim(inbox))

    named = {entry["event"]: entry.get("request_id") for entry in logs}
    assert (named["job_started"], named["job_ended"]) == ("req_7", "req_7")
