"""A worker in this process: the real engine, queue and store, without the signals and the second thread."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from redis import Redis

from model.engine import Engine
from service.jobs.card import Measured, ModelCard
from service.jobs.garbage import Garbage
from service.jobs.queue import JobQueue
from service.jobs.request import parse, resolve
from service.jobs.submission import Submission
from service.jobs.watermark_ids import WatermarkIds
from service.metrics import WorkerMetrics
from service.provenance.notary import Notary
from service.settings import Settings
from service.storage import Storage
from worker.card import model_card
from worker.checkpoints import Checkpoints
from worker.endings import Endings
from worker.finish import Finisher
from worker.finishing import FinishingPool
from worker.frame_check import FrameCheck
from worker.inbox import Inbox
from worker.marks import Marks
from worker.runner import JobRunner
from worker.scheduling import make_estimator, make_policy
from worker.scratch import scratch_folder
from worker.shutdown import Shutdown
from worker.stall import StallWatch

NAME = "worker-under-test"


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The embedded checkpoint, in float32 on the CPU."""
    return Engine.from_pretrained("embedded", device="cpu", dtype="float32")


@pytest.fixture
def real_card(engine: Engine) -> ModelCard:
    return model_card(engine.card)


@pytest.fixture
def submit(queue: JobQueue, real_card: ModelCard) -> Callable[..., str]:
    """submit("a prompt", seed=3) queues a quick clip, five frames in two steps, and gives the video's id."""

    def make(prompt: str = "a red circle", **fields: object) -> str:
        resolved = resolve(parse({"num_inference_steps": 2, "num_frames": 5, "prompt": prompt, **fields}), real_card)
        submission = Submission(request=resolved.request, fingerprint=real_card.fingerprint)
        return queue.submit(submission).record.id

    return make


@pytest.fixture
def shutdown() -> Shutdown:
    return Shutdown()


@pytest.fixture
def inbox(queue: JobQueue, shutdown: Shutdown, real_card: ModelCard) -> Inbox:
    return Inbox(queue, shutdown, StallWatch(limit_seconds=300), worker=NAME, fingerprint=real_card.fingerprint)


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    with scratch_folder(tmp_path / "scratch") as folder:
        yield folder


@pytest.fixture
def notary(settings: Settings) -> Notary:
    return Notary(settings)


@pytest.fixture
def finisher(storage: Storage, redis: Redis, scratch: Path, shutdown: Shutdown, notary: Notary) -> Finisher:
    marks = Marks(storage, WatermarkIds(redis), notary, shutdown=shutdown, revision="r1")
    return Finisher(storage, Garbage(redis), marks, scratch, shutdown)


@pytest.fixture
def checkpoints(redis: Redis, queue: JobQueue, storage: Storage, scratch: Path, shutdown: Shutdown) -> Checkpoints:
    """Without its thread: call work()."""
    metrics = WorkerMetrics(CollectorRegistry())
    return Checkpoints(queue, Garbage(redis), storage, scratch, shutdown=shutdown, metrics=metrics)


@pytest.fixture
def make_runner(
    inbox: Inbox, engine: Engine, finisher: Finisher, checkpoints: Checkpoints, shutdown: Shutdown, settings: Settings
) -> Callable[..., JobRunner]:
    """make_runner(engine=…, checkpoints=…, max_jobs_in_flight=…) replaces parts and settings of the real one."""

    def make(
        *,
        engine: Engine = engine,
        finisher: Finisher = finisher,
        checkpoints: Checkpoints = checkpoints,
        frame_check: FrameCheck | None = None,
        **changes: object,
    ) -> JobRunner:
        metrics = WorkerMetrics(CollectorRegistry())
        measured = Measured(seconds_per_step=0.05, seconds_per_clip=1.5, device="cpu", dtype="float32")
        changed = settings.with_changes(**changes)
        endings = Endings(inbox, finisher, metrics=metrics, name=NAME, device=engine.device, frame_check=frame_check)
        return JobRunner(
            engine,
            make_policy(engine, changed),
            make_estimator(engine, measured),
            endings,
            FinishingPool(endings),
            checkpoints,
            checkpoint_seconds=changed.checkpoint_seconds,
            preview_seconds=changed.preview_seconds,
            shutdown=shutdown,
            metrics=metrics,
        )

    return make


@pytest.fixture
def runner(make_runner: Callable[..., JobRunner]) -> JobRunner:
    return make_runner()
