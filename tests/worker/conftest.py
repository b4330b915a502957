"""A worker in this process: the real engine, queue and store, without the signals and the second thread."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from model.engine import Engine
from service.jobs.card import ModelCard
from service.jobs.queue import JobQueue
from service.jobs.record import Submission
from service.jobs.request import parse, resolve
from service.metrics import WorkerMetrics
from service.storage import Storage
from worker.card import model_card
from worker.finish import Finisher
from worker.inbox import Inbox
from worker.loop import JobRunner
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
def finisher(storage: Storage, scratch: Path, shutdown: Shutdown) -> Finisher:
    return Finisher(storage, scratch, shutdown)


@pytest.fixture
def make_runner(inbox: Inbox, engine: Engine, finisher: Finisher, shutdown: Shutdown) -> Callable[..., JobRunner]:
    """make_runner(engine=…, finisher=…) replaces parts of the real one."""

    def make(*, engine: Engine = engine, finisher: Finisher = finisher) -> JobRunner:
        metrics = WorkerMetrics(CollectorRegistry())
        return JobRunner(inbox, engine, finisher, shutdown=shutdown, metrics=metrics, name=NAME)

    return make


@pytest.fixture
def runner(make_runner: Callable[..., JobRunner]) -> JobRunner:
    return make_runner()
