"""The second thread: what it tells the queue, and what it hears."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from redis import Redis
from rq import Worker

from service.jobs.card import ModelCard
from service.jobs.connection import connect_bytes
from service.jobs.execution import Signal
from service.jobs.link import Link
from service.jobs.queue import JobQueue
from service.jobs.record import State, WorkerInfo, new_execution_id
from service.jobs.store import VideoStore
from service.metrics import WorkerMetrics
from service.settings import Settings
from tests.worker.conftest import NAME
from worker.heartbeat import Heartbeat
from worker.inbox import Inbox
from worker.presence import Presence
from worker.shutdown import Shutdown
from worker.stall import StallWatch

Submit = Callable[..., str]
WaitUntil = Callable[..., None]


@pytest.fixture
def presence(store: VideoStore, settings: Settings, real_card: ModelCard) -> Iterator[Presence]:
    assert settings.redis_url is not None
    info = WorkerInfo(name=NAME, model=real_card.id, device="cpu", started_at=0.0, host="here", pid=1)
    with connect_bytes(settings.redis_url) as redis:
        presence = Presence(store, redis, worker=info, card=real_card, queues=["standard"], ttl_seconds=30)
        presence.show(is_busy=False)
        yield presence


@pytest.fixture
def watch() -> StallWatch:
    return StallWatch(limit_seconds=1000)


@pytest.fixture
def beating_inbox(
    queue: JobQueue,
    presence: Presence,
    settings: Settings,
    shutdown: Shutdown,
    watch: StallWatch,
    real_card: ModelCard,
) -> Iterator[Inbox]:
    inbox = Inbox(queue, shutdown, watch, worker=NAME, fingerprint=real_card.fingerprint)
    heartbeat = Heartbeat(
        inbox,
        presence,
        shutdown=shutdown,
        link=Link(lease_seconds=settings.lease_seconds),
        watch=watch,
        metrics=WorkerMetrics(CollectorRegistry()),
        heartbeat_seconds=0.1,
        lease_seconds=settings.lease_seconds,
        stall_seconds=1000,
    )
    heartbeat.start()
    yield inbox
    heartbeat.stop()


def lease_deadline(redis: Redis, inbox: Inbox) -> float:
    [held] = inbox.held
    lease = held.claim.lease
    deadline = redis.zscore("wanserve:leases", f"{lease.job_id}:{lease.execution_id}")
    return float(deadline or 0)


def test_lease_is_prolonged_as_long_as_the_job_is_held(
    beating_inbox: Inbox, submit: Submit, redis: Redis, wait_until: WaitUntil
) -> None:
    submit()
    beating_inbox.next_job(wait_seconds=5)
    first = lease_deadline(redis, beating_inbox)
    wait_until(lambda: lease_deadline(redis, beating_inbox) > first + 0.5)


def test_stalled_engine_loses_its_lease(
    beating_inbox: Inbox,
    submit: Submit,
    store: VideoStore,
    watch: StallWatch,
    monkeypatch: pytest.MonkeyPatch,
    wait_until: WaitUntil,
) -> None:
    video_id = submit()
    beating_inbox.next_job(wait_seconds=5)
    monkeypatch.setattr(StallWatch, "is_stalled", True)
    # Nobody renews, and another worker's reclaim (here: this one's own) puts it back.
    wait_until(lambda: store.get(video_id).state is State.QUEUED)


def test_progress_reaches_the_record(
    beating_inbox: Inbox, submit: Submit, store: VideoStore, wait_until: WaitUntil
) -> None:
    video_id = submit()
    held = beating_inbox.next_job(wait_seconds=5)
    assert held is not None
    held.enter("upload", percent=98)
    wait_until(lambda: store.get(video_id).percent == 98)
    assert store.get(video_id).state is State.FINISHING


def test_cancellation_is_heard(beating_inbox: Inbox, submit: Submit, queue: JobQueue, wait_until: WaitUntil) -> None:
    video_id = submit()
    held = beating_inbox.next_job(wait_seconds=5)
    assert held is not None
    queue.cancel(video_id)
    wait_until(lambda: held.signal is Signal.CANCEL)


def test_job_of_a_silent_worker_is_put_back(
    beating_inbox: Inbox,
    submit: Submit,
    queue: JobQueue,
    store: VideoStore,
    real_card: ModelCard,
    wait_until: WaitUntil,
) -> None:
    video_id = submit()
    execution_id = new_execution_id()
    assert queue.claim(worker="silent", fingerprint=real_card.fingerprint, execution_id=execution_id) is not None
    wait_until(lambda: store.get(video_id).state is State.QUEUED)
    assert queue.depth() == 1


def test_worker_is_seen_and_reclaims_at_maxmemory(
    beating_inbox: Inbox,
    submit: Submit,
    queue: JobQueue,
    redis: Redis,
    store: VideoStore,
    real_card: ModelCard,
    limit_memory: Callable[[int], None],
    wait_until: WaitUntil,
) -> None:
    video_id = submit()
    execution_id = new_execution_id()
    assert queue.claim(worker="dead", fingerprint=real_card.fingerprint, execution_id=execution_id) is not None
    limit_memory(1)
    redis.delete("wanserve:workers", "wanserve:cards", "rq:workers")
    wait_until(lambda: [worker.name for worker in store.live_workers()] == [NAME] and store.cards())
    wait_until(lambda: redis.smembers("rq:workers") == {f"rq:worker:{NAME}"})
    wait_until(lambda: store.get(video_id).state is State.QUEUED)


def test_rq_sees_the_worker_and_what_it_does(
    beating_inbox: Inbox, presence: Presence, submit: Submit, settings: Settings, wait_until: WaitUntil
) -> None:
    assert settings.redis_url is not None
    submit()
    beating_inbox.next_job(wait_seconds=5)
    with connect_bytes(settings.redis_url) as redis:

        def state() -> str:
            [worker] = Worker.all(connection=redis)
            assert worker.name == NAME
            return worker.get_state()

        wait_until(lambda: state() == "busy")
        presence.leave()
        assert Worker.all(connection=redis) == []


def test_worker_comes_back_after_redis_lost_everything(
    beating_inbox: Inbox, redis: Redis, store: VideoStore, wait_until: WaitUntil
) -> None:
    redis.flushall()
    wait_until(lambda: [worker.name for worker in store.live_workers()] == [NAME] and store.cards())
    wait_until(lambda: redis.smembers("rq:workers") == {f"rq:worker:{NAME}"})


def test_death_of_the_thread_ends_the_process(tmp_path: Path) -> None:
    dying = (
        "import time\n"
        "from worker.heartbeat import Heartbeat\n"
        "heartbeat = Heartbeat(None, None, shutdown=None, link=None, watch=None, metrics=None,\n"
        "    heartbeat_seconds=0.1, lease_seconds=1, stall_seconds=1)\n"
        "heartbeat.start()\n"
        "time.sleep(60)\n"
    )
    assert subprocess.run([sys.executable, "-c", dying], check=False, timeout=60).returncode == 70
