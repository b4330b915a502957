"""Servers that stay away for a while in the middle of a job."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.embedded import EmbeddedServers
from service.errors import QueueUnavailable
from service.jobs.card import ModelCard
from service.jobs.queue import JobQueue
from service.jobs.record import Lease, Outcome, Signal, State, Verdict, new_execution_id
from service.jobs.store import VideoStore
from service.settings import Settings
from service.storage import S3Storage, Storage
from tests.worker.proxy import CuttableProxy
from worker.finish import Finisher
from worker.held import HeldJob
from worker.inbox import Inbox
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
def far_finisher(
    proxy: CuttableProxy, settings: Settings, storage: Storage, scratch: Path, shutdown: Shutdown
) -> Iterator[Finisher]:
    """Its store is reached through the proxy, and gives up each try at once."""
    behind = settings.with_changes(s3_endpoint=f"http://127.0.0.1:{proxy.port}")
    far_storage = S3Storage(behind, is_patient=False)
    yield Finisher(far_storage, scratch, shutdown)
    far_storage.close()


def claim(inbox: Inbox) -> HeldJob:
    held = inbox.next_job(wait_seconds=5)
    assert held is not None
    return held


def run_in_thread(runner: JobRunner, held: HeldJob) -> threading.Thread:
    thread = threading.Thread(target=runner.run, args=(held,), daemon=True)
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


class ReplyLosingQueue(JobQueue):
    """Redis does what it is told, but the first reply to finish() is lost on the way."""

    num_finishes = 0

    def finish(self, lease: Lease, outcome: Outcome) -> Verdict:
        verdict = super().finish(lease, outcome)
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
    assert inbox.held is None


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
