"""A worker process from start to end: opens everything once, closes it in reverse."""

import contextlib
import os
import secrets
import socket
import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from redis import Redis

from model.engine import Engine
from service.errors import Unavailable
from service.jobs.connection import connect, connect_bytes, redis_errors
from service.jobs.garbage import Garbage
from service.jobs.link import Link
from service.jobs.queue import JobQueue
from service.jobs.record import PRIORITIES, WorkerInfo
from service.jobs.store import VideoStore
from service.jobs.watermark_ids import WatermarkIds
from service.logs import get_logger
from service.metrics import WorkerMetrics, serve_metrics
from service.provenance.notary import Notary
from service.settings import Settings
from service.storage import Storage, open_storage
from service.tracing import make_tracing
from service.watched_storage import WatchedStorage
from worker.card import model_card
from worker.checkpoints import Checkpoints
from worker.endings import Endings
from worker.engine import load_engine
from worker.finish import Finisher
from worker.finishing import NUM_PLACES, FinishingPool
from worker.frame_check import FrameCheck
from worker.heartbeat import Heartbeat
from worker.inbox import Inbox
from worker.loop import Worker
from worker.marks import Marks
from worker.patience import insist
from worker.presence import Presence
from worker.room import Room, largest_file_bytes
from worker.runner import JobRunner
from worker.scheduling import make_estimator, make_policy
from worker.scratch import scratch_folder
from worker.shutdown import Shutdown
from worker.speed import device_name, measure
from worker.stall import StallWatch
from worker.telemetry import watch_engine

log = get_logger(__name__)


def run_worker(settings: Settings) -> None:
    """Serve jobs until SIGTERM or SIGINT. settings: with redis_url, as attach() fills it in.

    Raises StartupError, CheckpointError, ValueError (no such device) and DeviceLost.
    """
    with contextlib.ExitStack() as opened:
        registry = CollectorRegistry()
        metrics = WorkerMetrics(registry)
        if settings.worker_metrics_port:
            server, _ = serve_metrics(registry, host=settings.host, port=settings.worker_metrics_port)
            opened.callback(server.shutdown)
        notary = Notary(settings, on_unsigned=metrics.unsigned.inc, on_untimed=metrics.untimed.inc)
        metrics.watch_certificate(lambda: notary.expires_at)
        # Before the model: a missing part must not be found minutes later.
        frame_check = None if settings.frame_limit is None else FrameCheck(settings.frame_limit)
        tracing = opened.enter_context(contextlib.closing(make_tracing(settings, role="worker")))
        scratch = opened.enter_context(scratch_folder(settings.data_dir / "scratch"))
        redis = opened.enter_context(_redis(settings))
        engine = _load(settings)
        measured = measure(engine)
        watch_engine(engine, metrics)
        log.info("worker_warm", seconds_per_step=measured.seconds_per_step, device=measured.device)

        # Until here a signal ends the process at once: it holds nothing yet.
        shutdown = Shutdown()
        shutdown.install()
        storage = opened.enter_context(_storage(settings, shutdown, metrics))
        watch = StallWatch(limit_seconds=settings.stall_seconds)
        name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        queue = JobQueue(redis, settings)
        inbox = Inbox(queue, shutdown, watch, worker=name, fingerprint=engine.card.fingerprint)
        registration = opened.enter_context(connect_bytes(_redis_url(settings)))

        def make_presence() -> Presence:
            return Presence(
                VideoStore(redis),
                registration,
                worker=_worker_info(name, engine, settings),
                card=model_card(engine.card, measured=measured, more_aliases=settings.more_aliases),
                queues=PRIORITIES,
                ttl_seconds=max(3 * settings.heartbeat_seconds, 5),
            )

        # It asks Redis, which may have gone while the model was loaded.
        presence = insist(make_presence, may_go_on=lambda: not shutdown.is_requested, name="queue")
        heartbeat = Heartbeat(
            inbox,
            presence,
            shutdown=shutdown,
            link=Link(lease_seconds=settings.lease_seconds),
            watch=watch,
            metrics=metrics,
            heartbeat_seconds=settings.heartbeat_seconds,
            lease_seconds=settings.lease_seconds,
            stall_seconds=settings.stall_seconds,
        )
        garbage = Garbage(redis)
        marks = Marks(storage, WatermarkIds(redis), notary, shutdown=shutdown, revision=engine.card.revision)
        finisher = Finisher(storage, garbage, marks, scratch, shutdown)
        endings = Endings(
            inbox,
            finisher,
            metrics=metrics,
            name=name,
            device=engine.device,
            frame_check=frame_check,
            tracing=tracing,
        )
        finishing = FinishingPool(endings)
        checkpoints = Checkpoints(queue, garbage, storage, scratch, shutdown=shutdown, metrics=metrics)
        runner = JobRunner(
            engine,
            make_policy(engine, settings),
            make_estimator(engine, measured),
            endings,
            finishing,
            checkpoints,
            checkpoint_seconds=settings.checkpoint_seconds,
            preview_seconds=settings.preview_seconds,
            shutdown=shutdown,
            metrics=metrics,
        )
        room = Room(scratch, need_bytes=NUM_PLACES * largest_file_bytes(engine.card))
        checkpoints.start()
        opened.callback(checkpoints.stop)
        with _announced(presence, shutdown, metrics):
            Worker(inbox, runner, finishing, heartbeat, room, shutdown=shutdown).run()


def _load(settings: Settings) -> Engine:
    started = time.monotonic()
    log.info("model_loading", checkpoint=settings.checkpoint)
    engine = load_engine(settings)
    log.info("model_loaded", model=engine.card.id, seconds=round(time.monotonic() - started, 2))
    engine.warm_up()
    return engine


@contextlib.contextmanager
def _redis(settings: Settings) -> Iterator[Redis]:
    """Waits for a server that does not answer: a large model would be loaded for nothing."""
    with connect(_redis_url(settings)) as redis:
        insist(redis_errors()(redis.ping), may_go_on=lambda: True, name="queue")
        yield redis


@contextlib.contextmanager
def _storage(settings: Settings, shutdown: Shutdown, metrics: WorkerMetrics) -> Iterator[Storage]:
    with contextlib.closing(WatchedStorage(open_storage(settings), metrics.storage)) as storage:
        insist(storage.ensure_bucket, may_go_on=lambda: not shutdown.is_requested, name="storage")
        yield storage


@contextlib.contextmanager
def _announced(presence: Presence, shutdown: Shutdown, metrics: WorkerMetrics) -> Iterator[None]:
    insist(lambda: presence.show(is_busy=False), may_go_on=lambda: not shutdown.is_requested, name="queue")
    log.info("worker_ready")
    metrics.ready.set(1)
    try:
        yield
    finally:
        metrics.ready.set(0)
        with contextlib.suppress(Unavailable):
            # What it said of itself runs out anyway.
            presence.leave()
        log.info("worker_ended")


def _worker_info(name: str, engine: Engine, settings: Settings) -> WorkerInfo:
    return WorkerInfo(
        name=name,
        model=engine.card.id,
        device=device_name(engine.device),
        started_at=time.time(),
        host=socket.gethostname(),
        pid=os.getpid(),
        metrics_port=settings.worker_metrics_port or None,
    )


def _redis_url(settings: Settings) -> str:
    assert settings.redis_url is not None
    return settings.redis_url
