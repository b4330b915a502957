"""Servers that stay away for a while in the middle of a job."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from redis import Redis

from service.embedded import EmbeddedServers
from service.errors import QueueUnavailable
from service.jobs.card import ModelCard
from service.jobs.execution import Finding, Lease, Outcome, Signal, Verdict
from service.jobs.garbage import Garbage
from service.jobs.queue import JobQueue
from service.jobs.record import State, new_execution_id
from service.jobs.store import VideoStore
from service.jobs.watermark_ids import WatermarkIds
from service.metrics import WorkerMetrics
from service.provenance.notary import Notary
from service.settings import Settings
from service.storage import S3Storage, Storage
from tests.worker.claims import run_to_end
from tests.worker.proxy import CuttableProxy
from worker.checkpoints import Checkpoints
from worker.finish import Finisher
from worker.finishing import NUM_PLACES
from worker.held import HeldJob
from worker.inbox import Inbox
from worker.marks import Marks
from worker.runner import JobRunner
from worker.shutdown import Shutdown
from worker.stall import StallWatch

MakeRunner = Callable[..., JobRunner]
Submit = Callable[..., str]
WaitUntil = Callable[..., None]


@pytest.fixture
def proxy(servers: EmbeddedServers) -> Iterator[CuttableProxy]:
    assert servers.settings.s3_endpoint is not None
    with CuttableProxy(servers.settings.s3_endpoint) as proxy:
        yield proxy


@pytest.fixture
def far_storage(proxy: CuttableProxy, settings: Settings, storage: Storage) -> Iterator[S3Storage]:
    """Reached through the proxy; gives up each try at once."""
    behind = settings.with_changes(s3_endpoint=f"http://127.0.0.1:{proxy.port}")
    with closing(S3Storage(behind, is_patient=False)) as far:
        yield far


@pytest.fixture
def far_finisher(
    far_storage: S3Storage, garbage: Garbage, redis: Redis, scratch: Path, shutdown: Shutdown, notary: Notary
) -> Finisher:
    marks = Marks(far_storage, WatermarkIds(redis), notary, shutdown=shutdown)
    return Finisher(far_storage, garbage, marks, scratch, shutdown)


@pytest.fixture
def far_checkpoints(
    far_storage: S3Storage, queue: JobQueue, garbage: Garbage, scratch: Path, shutdown: Shutdown
) -> Checkpoints:
    metrics = WorkerMetrics(CollectorRegistry())
    return Checkpoints(queue, garbage, far_storage, scratch, shutdown=shutdown, metrics=metrics)


def claim(inbox: Inbox) -> HeldJob:
    held = inbox.next_job(wait_seconds=5)
    assert held is not None
    return held


def run_in_thread(runner: JobRunner, held: HeldJob) -> threading.Thread:
    thread = threading.Thread(target=run_to_end, args=(runner, held), daemon=True)
    thread.start()
    return thread


def is_waiting_for_the_store(held: HeldJob) -> bool:
    return held.progress.stage == "upload" and held.num_moves > 20


def test_upload_waits_for_the_store_and_then_completes(
    proxy: CuttableProxy,
    far_finisher: Finisher,
    make_runner: MakeRunner,
    submit: Submit,
    inbox: Inbox,
    store: VideoStore,
    wait_until: WaitUntil,
) -> None:
    video_id = submit()
    held = claim(inbox)
    proxy.cut()
    thread = run_in_thread(make_runner(finisher=far_finisher), held)
    wait_until(lambda: is_waiting_for_the_store(held))
    assert not store.get(video_id).is_terminal
    proxy.mend()
    thread.join(timeout=60)
    assert store.get(video_id).state is State.COMPLETED


def test_job_that_waits_for_the_store_can_be_cancelled(
    proxy: CuttableProxy,
    far_finisher: Finisher,
    make_runner: MakeRunner,
    submit: Submit,
    inbox: Inbox,
    queue: JobQueue,
    scratch: Path,
    wait_until: WaitUntil,
) -> None:
    video_id = submit()
    held = claim(inbox)
    proxy.cut()
    thread = run_in_thread(make_runner(finisher=far_finisher), held)
    wait_until(lambda: is_waiting_for_the_store(held))
    queue.cancel(video_id)
    held.signal = Signal.CANCEL
    thread.join(timeout=60)
    assert queue.num_running() == 0
    assert list(scratch.iterdir()) == []


def test_shutdown_does_not_wait_for_the_store(
    proxy: CuttableProxy,
    far_finisher: Finisher,
    make_runner: MakeRunner,
    submit: Submit,
    inbox: Inbox,
    store: VideoStore,
    shutdown: Shutdown,
    wait_until: WaitUntil,
) -> None:
    video_id = submit()
    held = claim(inbox)
    proxy.cut()
    thread = run_in_thread(make_runner(finisher=far_finisher), held)
    wait_until(lambda: is_waiting_for_the_store(held))
    shutdown._grace_seconds = 1.5
    shutdown.request()
    thread.join(timeout=60)
    record = store.get(video_id)
    assert (record.state, record.attempt) == (State.QUEUED, 0)


def test_the_engine_goes_on_while_the_store_is_away_until_the_finishing_places_are_full(
    proxy: CuttableProxy,
    far_finisher: Finisher,
    make_runner: MakeRunner,
    submit: Submit,
    inbox: Inbox,
    store: VideoStore,
    wait_until: WaitUntil,
) -> None:
    ids = [submit("a red circle", seed=seed) for seed in range(4)]
    proxy.cut()
    runner = make_runner(finisher=far_finisher)
    jobs = [claim(inbox) for _ in ids]
    thread = threading.Thread(target=run_to_end, args=(runner, *jobs), daemon=True)
    thread.start()
    wait_until(lambda: sum(map(is_waiting_for_the_store, jobs)) == NUM_PLACES)
    # The others are denoised, and wait before their frames are made.
    wait_until(lambda: [held.progress.step for held in jobs] == [2] * 4)
    assert [held.progress.state for held in jobs].count(State.FINISHING) == NUM_PLACES
    assert not runner.has_room
    proxy.mend()
    thread.join(timeout=60)
    assert [store.get(video_id).state for video_id in ids] == [State.COMPLETED] * 4


@pytest.fixture
def interrupted(submit: Submit, inbox: Inbox, make_runner: MakeRunner, checkpoints: Checkpoints) -> HeldJob:
    """Claimed again after a worker that was asked to stop had saved it at its third step."""
    submit("a red circle", seed=1, num_inference_steps=6)
    first = claim(inbox)
    runner = make_runner(checkpoint_seconds=0)
    runner.take(first)
    for _ in range(3):
        runner.advance()
    checkpoints.work()
    inbox.release(first)
    again = claim(inbox)
    assert again.claim.checkpoint is not None
    assert (again.claim.attempt, again.claim.checkpoint.step) == (1, 3)
    return again


def test_the_others_go_on_while_a_saved_state_can_not_be_read(
    proxy: CuttableProxy,
    far_checkpoints: Checkpoints,
    interrupted: HeldJob,
    make_runner: MakeRunner,
    submit: Submit,
    inbox: Inbox,
    store: VideoStore,
) -> None:
    other_id = submit("a red circle", seed=2, num_inference_steps=4)
    other = claim(inbox)
    runner = make_runner(checkpoints=far_checkpoints)
    proxy.cut()
    runner.take(other)
    runner.take(interrupted)
    assert not runner.has_room

    while not store.get(other_id).is_terminal:
        runner.advance()
    assert store.get(other_id).state is State.COMPLETED
    assert interrupted.progress.step == 0
    assert interrupted.num_moves > 0
    assert runner.is_busy

    proxy.mend()
    steps = []
    while runner.is_busy:
        runner.advance()
        steps.append(interrupted.progress.step)
    assert 0 < min(step for step in steps if step) <= 4
    assert [step for step in steps if 0 < step < 3] == []
    assert interrupted.progress.state is State.FINISHING


def test_a_job_whose_state_can_not_be_read_can_be_cancelled_and_handed_back(
    proxy: CuttableProxy,
    far_checkpoints: Checkpoints,
    interrupted: HeldJob,
    make_runner: MakeRunner,
    inbox: Inbox,
    queue: JobQueue,
    shutdown: Shutdown,
) -> None:
    runner = make_runner(checkpoints=far_checkpoints)
    proxy.cut()
    runner.take(interrupted)
    runner.advance()
    assert runner.is_busy

    shutdown.request()
    while runner.is_busy:
        runner.advance()

    assert inbox.held == ()
    assert queue.depth() == 1


class ReplyLosingQueue(JobQueue):
    """Redis does what it is told, but the first reply to finish() is lost on the way."""

    num_finishes = 0

    def finish(self, lease: Lease, outcome: Outcome, *, finding: Finding | None = None) -> Verdict:
        verdict = super().finish(lease, outcome, finding=finding)
        self.num_finishes += 1
        if self.num_finishes == 1:
            raise QueueUnavailable("The reply was lost.")
        return verdict


def test_after_a_lost_reply_the_worker_asks_again_and_keeps_its_files(
    settings: Settings, queue: JobQueue, submit: Submit, shutdown: Shutdown, store: VideoStore, real_card: ModelCard
) -> None:
    losing = ReplyLosingQueue(queue._redis, settings)
    inbox = Inbox(losing, shutdown, StallWatch(limit_seconds=300), worker="w", fingerprint=real_card.fingerprint)
    video_id = submit()
    held = claim(inbox)
    verdict = inbox.finish(held, Outcome.failed("some_error", "Some error."))
    assert verdict is Verdict.ALREADY_MINE
    assert losing.num_finishes == 2
    assert store.get(video_id).state is State.FAILED
    assert inbox.held == ()


def test_claim_whose_reply_was_lost_gives_the_same_job_again(
    queue: JobQueue, submit: Submit, shutdown: Shutdown, real_card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit("a red circle")
    submit("a blue circle")
    inbox = Inbox(queue, shutdown, StallWatch(limit_seconds=300), worker="w", fingerprint=real_card.fingerprint)
    answered = queue.claim
    lost = []

    def lose_the_first_reply(**asked: str) -> object:
        claimed = answered(**asked)
        if not lost:
            lost.append(claimed)
            raise QueueUnavailable("The reply was lost.")
        return claimed

    monkeypatch.setattr(queue, "claim", lose_the_first_reply)
    with pytest.raises(QueueUnavailable):
        inbox.next_job(wait_seconds=0.1)
    held = claim(inbox)
    assert lost[0] is not None
    assert held.claim.lease == lost[0].lease
    assert held.claim.lease.execution_id != new_execution_id()
    assert queue.num_running() == 1
