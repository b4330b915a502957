"""A job that was interrupted goes on where its state was saved, on the real queue, store and engine."""

import io
import threading
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from redis import Redis

from model.engine import Engine
from service.errors import ObjectNotFound
from service.jobs.execution import Signal
from service.jobs.queue import JobQueue
from service.jobs.record import State
from service.jobs.store import VideoStore
from service.provenance.notary import Notary
from service.settings import Settings
from service.storage import Storage
from service.sweeper import Sweeper
from tests.worker.claims import run_to_end
from tests.worker.watched import WatchedEngine
from worker.checkpoints import Checkpoints
from worker.held import HeldJob
from worker.inbox import Inbox
from worker.runner import JobRunner
from worker.shutdown import Shutdown

Submit = Callable[..., str]
MakeRunner = Callable[..., JobRunner]


@pytest.fixture
def notary(settings: Settings) -> Notary:
    """Without watermarks, which differ from video to video."""
    return Notary(settings.with_changes(watermark="off"))


@pytest.fixture
def watched(engine: Engine) -> WatchedEngine:
    return WatchedEngine(engine)


@pytest.fixture
def runner(make_runner: MakeRunner, watched: WatchedEngine) -> JobRunner:
    """Saves after every step."""
    return make_runner(engine=watched, checkpoint_seconds=0)


def claim(inbox: Inbox) -> HeldJob:
    held = inbox.next_job(wait_seconds=5)
    assert held is not None
    return held


def do_steps(runner: JobRunner, held: HeldJob, count: int) -> None:
    runner.take(held)
    for _ in range(count):
        runner.advance()


def lose_worker(held: HeldJob, inbox: Inbox, queue: JobQueue, redis: Redis) -> None:
    """Its worker goes silent, and the lease runs out."""
    inbox.drop(held)
    redis.zadd("wanserve:leases", {f"{held.id}:{held.claim.lease.execution_id}": 1})
    assert [job.action for job in queue.reclaim()] == ["requeued"]


def frames_of(storage: Storage, store: VideoStore, video_id: str) -> list[NDArray[np.uint8]]:
    asset = store.get(video_id).asset
    assert asset is not None
    data = b"".join(storage.read(asset.video.key))
    with av.open(io.BytesIO(data)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_a_job_of_a_dead_worker_repeats_no_saved_step(
    submit: Submit,
    inbox: Inbox,
    runner: JobRunner,
    make_runner: MakeRunner,
    watched: WatchedEngine,
    checkpoints: Checkpoints,
    queue: JobQueue,
    redis: Redis,
    store: VideoStore,
    storage: Storage,
) -> None:
    video_id = submit(num_inference_steps=6, seed=7)
    first = claim(inbox)
    do_steps(runner, first, 4)
    checkpoints.work()
    lose_worker(first, inbox, queue, redis)

    second = claim(inbox)
    assert second.claim.checkpoint is not None
    assert second.claim.checkpoint.step == 4
    watched.groups = []
    run_to_end(make_runner(engine=watched), second)
    assert store.get(video_id).state is State.COMPLETED
    assert len(watched.groups) == 2

    resumed = frames_of(storage, store, video_id)
    redis.flushall()  # or the cache would answer
    again = submit(num_inference_steps=6, seed=7)
    run_to_end(make_runner(), claim(inbox))
    assert np.array_equal(resumed, frames_of(storage, store, again))


def test_states_vanish_with_their_job(
    submit: Submit,
    inbox: Inbox,
    runner: JobRunner,
    checkpoints: Checkpoints,
    sweeper: Sweeper,
    redis: Redis,
    storage: Storage,
) -> None:
    submit(num_inference_steps=4)
    held = claim(inbox)
    saved = []
    runner.take(held)
    for _ in range(3):
        runner.advance()
        checkpoints.work()
        saved.append(redis.hget(f"rq:job:{held.id}", "checkpoint"))
        storage.stat(str(saved[-1]))
    assert len(set(saved)) == 3
    run_to_end(runner)
    sweeper.sweep()
    for key in saved:
        with pytest.raises(ObjectNotFound):
            storage.stat(str(key))
    assert redis.zcard("wanserve:garbage") == 0
    assert redis.hget(f"rq:job:{held.id}", "checkpoint") is None


def test_a_cancelled_job_takes_its_state_with_it(
    submit: Submit,
    inbox: Inbox,
    runner: JobRunner,
    checkpoints: Checkpoints,
    sweeper: Sweeper,
    queue: JobQueue,
    redis: Redis,
    storage: Storage,
) -> None:
    video_id = submit(num_inference_steps=6)
    held = claim(inbox)
    do_steps(runner, held, 2)
    checkpoints.work()
    key = str(redis.hget(f"rq:job:{held.id}", "checkpoint"))
    lose_worker(held, inbox, queue, redis)
    queue.cancel(video_id)
    sweeper.sweep()
    with pytest.raises(ObjectNotFound):
        storage.stat(key)


def test_shutdown_saves_a_job_and_hands_it_back(
    submit: Submit,
    inbox: Inbox,
    make_runner: MakeRunner,
    watched: WatchedEngine,
    shutdown: Shutdown,
    store: VideoStore,
) -> None:
    video_id = submit(num_inference_steps=100)
    watched.pause_seconds = 0.1
    runner = make_runner(engine=watched)
    do_steps(runner, claim(inbox), 3)
    shutdown._grace_seconds = 2.5
    shutdown.request()
    run_to_end(runner)
    record = store.get(video_id)
    assert (record.state, record.attempt) == (State.QUEUED, 0)
    held = claim(inbox)
    assert held.claim.checkpoint is not None
    assert held.claim.checkpoint.step == 3
    assert held.claim.attempt == 1


@pytest.mark.parametrize("damage", ["gone", "broken", "another job's"])
def test_a_state_of_no_use_costs_steps_and_not_the_job(
    submit: Submit,
    inbox: Inbox,
    runner: JobRunner,
    make_runner: MakeRunner,
    watched: WatchedEngine,
    checkpoints: Checkpoints,
    queue: JobQueue,
    redis: Redis,
    store: VideoStore,
    storage: Storage,
    engine: Engine,
    tmp_path: Path,
    damage: str,
) -> None:
    video_id = submit(num_inference_steps=4)
    first = claim(inbox)
    do_steps(runner, first, 2)
    checkpoints.work()
    key = str(redis.hget(f"rq:job:{first.id}", "checkpoint"))
    file = tmp_path / "state"
    match damage:
        case "gone":
            storage.delete([key])
        case "broken":
            file.write_bytes(b"not a state")
            storage.put_file(key, file, content_type="application/octet-stream")
        case _:
            file.write_bytes(engine.save(engine.prepare(engine.card.default_params("a blue star"))))
            storage.put_file(key, file, content_type="application/octet-stream")
    lose_worker(first, inbox, queue, redis)
    watched.groups = []
    run_to_end(make_runner(engine=watched), claim(inbox))
    assert store.get(video_id).state is State.COMPLETED
    assert len(watched.groups) == 4


def test_the_state_of_a_lost_lease_is_garbage(
    submit: Submit,
    inbox: Inbox,
    runner: JobRunner,
    checkpoints: Checkpoints,
    sweeper: Sweeper,
    queue: JobQueue,
    redis: Redis,
) -> None:
    submit(num_inference_steps=6)
    held = claim(inbox)
    do_steps(runner, held, 2)
    lose_worker(held, inbox, queue, redis)
    checkpoints.work()
    assert redis.zcard("wanserve:garbage") == 1
    sweeper.sweep()
    assert redis.hget(f"rq:job:{held.id}", "checkpoint") is None
    assert redis.zcard("wanserve:garbage") == 0


def test_an_upload_that_no_record_came_to_name_is_removed_in_the_end(
    submit: Submit,
    inbox: Inbox,
    runner: JobRunner,
    checkpoints: Checkpoints,
    sweeper: Sweeper,
    queue: JobQueue,
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    submit(num_inference_steps=6)
    held = claim(inbox)
    do_steps(runner, held, 2)
    # As if the process died between upload and record.
    monkeypatch.setattr(queue, "checkpoint", lambda *_, **__: Signal.OK)
    checkpoints.work()
    [(key, due)] = redis.zrange("wanserve:garbage", 0, -1, withscores=True)
    assert due > redis.time()[0] + 600
    redis.zadd("wanserve:garbage", {key: 1})
    sweeper.sweep()
    assert redis.zcard("wanserve:garbage") == 0


def test_shutdown_saves_beside_the_thread_that_is_at_the_same_job(
    submit: Submit,
    inbox: Inbox,
    runner: JobRunner,
    watched: WatchedEngine,
    checkpoints: Checkpoints,
    redis: Redis,
    storage: Storage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both wrote the same scratch file, and the later state was announced as garbage again after it was named."""
    submit(num_inference_steps=6)
    held = claim(inbox)
    put_file, is_uploading, may_upload = storage.put_file, threading.Event(), threading.Event()

    def put_slowly(key: str, file: Path, *, content_type: str) -> object:
        if threading.current_thread().name == "checkpoints":
            is_uploading.set()
            assert may_upload.wait(30)
        return put_file(key, file, content_type=content_type)

    monkeypatch.setattr(storage, "put_file", put_slowly)
    do_steps(runner, held, 1)
    checkpoints.start()
    assert is_uploading.wait(30)
    runner.advance()
    checkpoints.save(held, watched.save(runner._generations[held.id].admitted), step=2)
    may_upload.set()
    checkpoints.stop()
    checkpoints._thread.join(30)

    key = str(redis.hget(f"rq:job:{held.id}", "checkpoint"))
    assert watched.resume(b"".join(storage.read(key))).step == 2
    assert key not in redis.zrange("wanserve:garbage", 0, -1)
    assert redis.zcard("wanserve:garbage") == 1
