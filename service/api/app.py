"""The gateway as an ASGI application."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, suppress
from importlib import metadata

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from service.api import content, models, ops, pages, streams, videos
from service.api.deps import Gateway
from service.api.fanout import Fanout
from service.api.guard import LoopbackGuard, refuse_open_bind
from service.api.probes import open_probes
from service.api.problems import on_crash, on_http_exception, on_service_error, on_validation_error
from service.api.trace import RequestTrace
from service.errors import ServiceError, SettingsError, StorageUnavailable
from service.jobs.connection import connect
from service.jobs.queue import JobQueue
from service.jobs.store import VideoStore
from service.links import Links
from service.logs import get_logger
from service.metrics import GatewayMetrics
from service.settings import Settings
from service.storage import open_storage

DESCRIPTION = (
    "Text to video with Wan2.2, in the shape of the OpenAI Videos API. "
    "Everything lies under /v1; /videos also answers without it."
)

log = get_logger(__name__)


def create_app(settings: Settings) -> FastAPI:
    """settings.redis_url must be set. Raises SettingsError for an address that other machines could reach."""
    refuse_open_bind(settings)
    if settings.redis_url is None:
        raise SettingsError("REDIS_URL is not set: start everything with `wanserve up`, or name a Redis server.")
    metrics = GatewayMetrics(CollectorRegistry())
    fanout = Fanout(settings.redis_url)
    app = FastAPI(
        title="wanserve",
        summary="Self-hosted text-to-video service.",
        description=DESCRIPTION,
        version=metadata.version("wanserve"),
        # The ready-made pages load scripts from a CDN.
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan(settings, settings.redis_url, metrics, fanout),
        middleware=[Middleware(RequestTrace, metrics=metrics), Middleware(LoopbackGuard)],
        exception_handlers={
            ServiceError: on_service_error,
            RequestValidationError: on_validation_error,
            HTTPException: on_http_exception,
            Exception: on_crash,
        },
    )
    for part in (videos, content, streams, models):
        app.include_router(part.router, prefix="/v1")
    for part in (videos, content, streams):
        app.include_router(part.router, include_in_schema=False)
    app.include_router(ops.router)
    app.include_router(pages.router)
    app.state.fanout = fanout
    return app


def _lifespan(
    settings: Settings, redis_url: str, metrics: GatewayMetrics, fanout: Fanout
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def opened(app: FastAPI) -> AsyncIterator[None]:
        """Open connections, serve, close them in reverse."""
        _prepare(settings)
        with (
            connect(redis_url) as redis,
            closing(open_storage(settings)) as storage,
            open_probes(settings, redis_url) as probes,
        ):
            app.state.gateway = Gateway(
                settings=settings,
                store=VideoStore(redis),
                queue=JobQueue(redis, settings),
                storage=storage,
                links=Links(storage, settings),
                metrics=metrics,
                fanout=fanout,
                probes=probes,
            )
            listener = asyncio.create_task(fanout.run())
            try:
                yield
            finally:
                listener.cancel()
                with suppress(asyncio.CancelledError):
                    await listener

    return opened


def _prepare(settings: Settings) -> None:
    """A store that is down now may come back: /health says so until then, and nobody waits for it here."""
    with closing(open_storage(settings, is_patient=False)) as storage:
        try:
            storage.ensure_bucket()
        except StorageUnavailable as e:
            log.warning("storage_unavailable", error=e.message)
