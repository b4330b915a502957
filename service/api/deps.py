"""What a handler works with. Opened and closed by the application's lifespan, never by a handler."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from service.api.fanout import Fanout
from service.api.probes import Probes
from service.jobs.queue import JobQueue
from service.jobs.store import VideoStore
from service.links import Links
from service.metrics import GatewayMetrics
from service.settings import Settings
from service.storage import Storage


@dataclass(frozen=True, slots=True)
class Gateway:
    """The open parts of one gateway process."""

    settings: Settings
    store: VideoStore
    queue: JobQueue
    storage: Storage
    links: Links
    metrics: GatewayMetrics
    fanout: Fanout
    probes: Probes
    clock: Callable[[], float] = time.time
    """Unix seconds."""


async def gateway_of(request: Request) -> Gateway:
    """The gateway that serves this request. Async, so that probes need none of the handlers' threads."""
    gateway = request.app.state.gateway
    assert isinstance(gateway, Gateway)
    return gateway


def base_url_of(request: Request) -> str:
    """Where the client reached us, without a slash at the end."""
    return str(request.base_url).rstrip("/")


WithGateway = Annotated[Gateway, Depends(gateway_of)]
WithBaseUrl = Annotated[str, Depends(base_url_of)]
