"""The gateway as an ASGI application."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, contextmanager, suppress
from importlib import metadata

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from prometheus_client import CollectorRegistry
from redis import Redis
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from service.api import (
    admin,
    batches,
    content,
    dashscope,
    files,
    models,
    moderations,
    ops,
    pages,
    reference,
    reviews,
    status,
    streams,
    usage,
    verify,
    videos,
    webhooks,
)
from service.api.audited import AuditTrail
from service.api.bulk import BulkOrders
from service.api.deps import Gateway
from service.api.fanout import Fanout
from service.api.gauges import watch_queue
from service.api.guard import LoopbackGuard, refuse_without_keys
from service.api.places import StreamPlaces
from service.api.probes import open_probes
from service.api.problems import (
    on_crash,
    on_http_exception,
    on_service_error,
    on_validation_error,
    problem_docs,
    problem_of,
)
from service.api.resources import video_resource
from service.api.trace import RequestTrace
from service.audit import AuditFile, AuditLog
from service.batches.batches import Batches
from service.batches.feeder import BatchFeeder
from service.batches.files import Files
from service.batches.results import Results
from service.callers import Callers
from service.chores import Chore, Chores
from service.errors import ServiceError, SettingsError, StorageUnavailable
from service.jobs.connection import connect, connect_async
from service.jobs.garbage import Garbage
from service.jobs.link import Link
from service.jobs.queue import JobQueue
from service.jobs.quick import QuickQueue
from service.jobs.rescue import Rescue
from service.jobs.reviews import Reviews
from service.jobs.store import VideoStore
from service.jobs.watermark_ids import WatermarkIds
from service.keys import Keys
from service.links import Links
from service.listen import address_of
from service.logs import get_logger
from service.loopback import asks_for_keys
from service.metrics import GatewayMetrics
from service.moderation.classifier import shared_classifier
from service.moderation.external import ExternalClassifier, SecondReader
from service.moderation.filter import PromptFilter
from service.moderation.folder import FolderClassifier
from service.moderation.scoring import scores_of
from service.prometheus import Prometheus
from service.prompt_extension import PromptExtension
from service.provenance.recorder import Recorder
from service.rates import Rates
from service.settings import Settings
from service.storage import open_storage
from service.sweeper import Sweeper
from service.tenants import Tenants
from service.tracing import Tracing, make_tracing
from service.usage import Usage
from service.watched_storage import WatchedStorage
from service.webhooks.deliveries import Deliveries
from service.webhooks.dispatch import Dispatch
from service.webhooks.dispatcher import Dispatcher
from service.webhooks.endpoints import Endpoints
from service.webhooks.messenger import Messenger
from service.webhooks.outbound import Outbound
from service.webhooks.receiver import ReceiverRules
from service.webhooks.trial import Trial

DESCRIPTION = (
    "Text to video with Wan2.2, in the shape of the OpenAI Videos API. "
    "Everything lies under /v1; /videos also answers without it. /api/v1 speaks DashScope."
)

PARTS = (videos, content, streams, models, webhooks, files, batches, moderations, reviews, verify, usage, admin)
"""Under /v1."""

RESOLVE_SECONDS = 45.0
"""The system's resolver may take so long for a name; it knows no deadline."""

log = get_logger(__name__)


def create_app(settings: Settings) -> FastAPI:
    """settings.redis_url must be set. Raises SettingsError where keys are needed and none exists."""
    if settings.redis_url is None:
        raise SettingsError("REDIS_URL is not set: start everything with `wanserve up`, or name a Redis server.")
    refuse_without_keys(settings)
    metrics = GatewayMetrics(CollectorRegistry())
    tracing = make_tracing(settings, role="gateway")
    fanout = Fanout(settings.redis_url)
    guard = [] if asks_for_keys(settings) else [Middleware(LoopbackGuard)]
    app = FastAPI(
        title="wanserve",
        summary="Self-hosted text-to-video service.",
        description=DESCRIPTION,
        version=metadata.version("wanserve"),
        # The ready-made pages load scripts from a CDN: reference.py has one that does not.
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan(settings, settings.redis_url, metrics, tracing, fanout),
        responses=problem_docs(500),
        middleware=[Middleware(RequestTrace, metrics=metrics, tracing=tracing), *guard, Middleware(AuditTrail)],
        exception_handlers={
            ServiceError: on_service_error,
            RequestValidationError: on_validation_error,
            HTTPException: on_http_exception,
            Exception: on_crash,
        },
    )
    for part in PARTS:
        app.include_router(part.router, prefix="/v1")
    for part in (videos, content, streams):
        app.include_router(part.router, include_in_schema=False)
    app.include_router(dashscope.router)
    app.include_router(ops.router)
    app.include_router(pages.router)
    app.include_router(status.router)
    app.include_router(reference.router)
    app.state.fanout = fanout
    return app


def _lifespan(
    settings: Settings, redis_url: str, metrics: GatewayMetrics, tracing: Tracing, fanout: Fanout
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def opened(app: FastAPI) -> AsyncIterator[None]:
        """Open connections, serve, close them in reverse."""
        _prepare(settings)
        with (
            closing(tracing),
            connect(redis_url) as redis,
            closing(WatchedStorage(open_storage(settings), metrics.storage)) as storage,
            open_probes(settings, redis_url) as probes,
            _extension(redis, settings, metrics) as extension,
            _filter(settings) as prompt_filter,
            _prometheus(settings) as prometheus,
        ):
            rules = ReceiverRules.of(settings)
            messenger = Messenger(Outbound(rules, timeout_seconds=settings.webhook_timeout_seconds))
            async_redis = connect_async(redis_url)
            queue, store = JobQueue(redis, settings), VideoStore(redis)
            gateway = app.state.gateway = Gateway(
                settings=settings,
                callers=Callers(redis, pepper=settings.pepper()),
                keys=Keys(redis, pepper=settings.pepper()),
                tenants=Tenants(redis),
                rates=Rates(redis),
                usage=Usage(redis),
                store=store,
                queue=queue,
                quick=QuickQueue(async_redis, queue, store),
                storage=storage,
                links=Links(storage, settings),
                watermark_ids=WatermarkIds(redis),
                metrics=metrics,
                fanout=fanout,
                probes=probes,
                receiver_rules=rules,
                endpoints=Endpoints(redis),
                deliveries=Deliveries(redis),
                trial=Trial(messenger),
                files=Files(redis, storage),
                batches=Batches(redis),
                filter=prompt_filter,
                reviews=Reviews(redis, settings, on_decision=lambda made: metrics.review_decisions.labels(made).inc()),
                extension=extension,
                prometheus=prometheus,
                audit=_audit_log(settings, metrics),
                places=StreamPlaces(
                    max_streams=settings.max_event_streams,
                    max_streams_by_tenant=settings.max_event_streams_by_tenant,
                ),
            )
            watch_queue(metrics, gateway, redis)
            listener = asyncio.create_task(fanout.run())
            try:
                chores = Chores(redis, _chores(gateway, redis))
                with _running(_dispatcher(gateway, messenger), chores, gateway.audit):
                    yield
            finally:
                listener.cancel()
                try:
                    with suppress(asyncio.CancelledError):
                        await listener
                finally:
                    await async_redis.aclose()

    return opened


@contextmanager
def _extension(redis: Redis, settings: Settings, metrics: GatewayMetrics) -> Iterator[PromptExtension | None]:
    if settings.prompt_extension_url is None:
        yield None
        return
    count = metrics.prompt_extensions.labels
    with closing(PromptExtension(redis, settings, on_outcome=lambda outcome: count(outcome).inc())) as extension:
        yield extension


@contextmanager
def _prometheus(settings: Settings) -> Iterator[Prometheus | None]:
    if settings.prometheus_url is None:
        yield None
        return
    with closing(Prometheus(settings.prometheus_url)) as prometheus:
        yield prometheus


@contextmanager
def _filter(settings: Settings) -> Iterator[PromptFilter]:
    """Of ourselves, and where settings name one of another classifier too. Raises StartupError."""
    # Now: a missing part must not be found by the first prompt, nor its reader wait for it.
    shared_classifier()
    if settings.moderation_url is None and settings.moderation_folder is None:
        yield PromptFilter()
        return
    with closing(_second_reader(settings)) as second:
        fallback = scores_of if settings.moderation_on_failure == "pass" else None
        yield PromptFilter(lambda text: second.widen(text, scores_of(text)), fallback=fallback)


def _second_reader(settings: Settings) -> SecondReader:
    return ExternalClassifier(settings) if settings.moderation_folder is None else FolderClassifier(settings)


@contextmanager
def _running(*parts: Dispatcher | Chores | AuditLog) -> Iterator[None]:
    """Threads beside the handlers."""
    for part in parts:
        part.start()
    try:
        yield
    finally:
        for part in parts:
            part.stop()


def _audit_log(settings: Settings, metrics: GatewayMetrics) -> AuditLog:
    file = AuditFile(settings.audit_path)
    return AuditLog(file, shows_prompts=settings.audit_prompts, on_loss=metrics.audit_entries_lost.inc)


def _dispatcher(gateway: Gateway, messenger: Messenger) -> Dispatcher:
    settings = gateway.settings
    # Without public_url: an event has no request that could tell where clients reach us.
    own_url = address_of(settings)
    dispatch = Dispatch(
        gateway.deliveries,
        gateway.store,
        messenger,
        show=lambda record: videos.public_video(gateway, record, base_url=own_url).model_dump(mode="json"),
        metrics=gateway.metrics,
        claim_seconds=settings.webhook_timeout_seconds + RESOLVE_SECONDS,
    )
    return Dispatcher(gateway.deliveries, dispatch)


def _chores(gateway: Gateway, redis: Redis) -> list[Chore]:
    settings = gateway.settings
    recorder = Recorder(redis, gateway.store, gateway.storage, settings)
    sweeper = Sweeper(Garbage(redis), gateway.storage, on_gone=recorder.files_are_gone)
    rescue = Rescue(gateway.queue, gateway.store, Link(lease_seconds=settings.lease_seconds))
    return [
        Chore("expire", every_seconds=1.0, do=gateway.queue.expire),
        Chore("end_overdue_reviews", every_seconds=10.0, do=gateway.reviews.end_overdue),
        Chore("sweep", every_seconds=2.0, do=sweeper.sweep),
        Chore("record_provenance", every_seconds=1.0, do=recorder.record),
        Chore("feed", every_seconds=1.0, do=_feeder(gateway, redis).feed),
        Chore("expire_files", every_seconds=60.0, do=gateway.files.expire),
        Chore("rescue", every_seconds=settings.heartbeat_seconds, do=rescue.look, is_everyones=True),
    ]


def _feeder(gateway: Gateway, redis: Redis) -> BatchFeeder:
    settings = gateway.settings
    # Half of the queue stays free for requests that somebody waits for.
    queue = JobQueue(redis, settings.with_changes(max_queue_depth=max(1, settings.max_queue_depth // 2)))
    results = Results(
        gateway.batches,
        gateway.files,
        gateway.store,
        gateway.storage,
        # Without links: they would be too old before anybody reads the file.
        show=lambda record: video_resource(record, video_link=None, thumbnail_link=None).model_dump(mode="json"),
        show_problem=lambda refusal: problem_of(refusal).model_dump(),
    )
    return BatchFeeder(
        gateway.batches,
        gateway.queue,
        gateway.store,
        gateway.storage,
        results,
        BulkOrders(gateway, Tenants(redis), queue).submit,
        max_at_work=settings.batch_jobs,
    )


def _prepare(settings: Settings) -> None:
    """A store that is down now may come back: /health says so until then, and nobody waits for it here."""
    with closing(open_storage(settings, is_patient=False)) as storage:
        try:
            storage.ensure_bucket()
        except StorageUnavailable as e:
            log.warning("storage_unavailable", error=e.message)
