"""What a handler works with. Opened and closed by the application's lifespan, never by a handler."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from service.api.fanout import Fanout
from service.api.places import StreamPlaces
from service.api.probes import Probes
from service.audit import AuditLog
from service.batches.batches import Batches
from service.batches.files import Files
from service.callers import Callers
from service.jobs.queue import JobQueue
from service.jobs.quick import QuickQueue
from service.jobs.reviews import Reviews
from service.jobs.store import VideoStore
from service.jobs.watermark_ids import WatermarkIds
from service.keys import Keys
from service.links import Links
from service.metrics import GatewayMetrics
from service.moderation.filter import PromptFilter
from service.prometheus import Prometheus
from service.prompt_extension import PromptExtension
from service.rates import Rates
from service.settings import Settings
from service.storage import Storage
from service.tenants import Tenants
from service.usage import Usage
from service.webhooks.deliveries import Deliveries
from service.webhooks.endpoints import Endpoints
from service.webhooks.receiver import ReceiverRules
from service.webhooks.trial import Trial


@dataclass(frozen=True, slots=True)
class Gateway:
    """The open parts of one gateway process."""

    settings: Settings
    callers: Callers
    keys: Keys
    tenants: Tenants
    rates: Rates
    usage: Usage
    store: VideoStore
    queue: JobQueue
    quick: QuickQueue
    storage: Storage
    links: Links
    watermark_ids: WatermarkIds
    metrics: GatewayMetrics
    fanout: Fanout
    probes: Probes
    receiver_rules: ReceiverRules
    endpoints: Endpoints
    deliveries: Deliveries
    trial: Trial
    audit: AuditLog
    places: StreamPlaces
    files: Files
    batches: Batches
    filter: PromptFilter
    reviews: Reviews
    extension: PromptExtension | None
    prometheus: Prometheus | None
    """Of the status page."""

    """None: not set up."""

    clock: Callable[[], float] = time.time
    """Unix seconds."""


def gateway_in(request: Request) -> Gateway:
    """The gateway that serves this request."""
    gateway = request.app.state.gateway
    assert isinstance(gateway, Gateway)
    return gateway


async def gateway_of(request: Request) -> Gateway:
    """The same as a dependency. Async: a plain one would cost a thread's time, and probes need none."""
    return gateway_in(request)


def base_url_of(request: Request) -> str:
    """Where the client reached us, without a slash at the end."""
    host = request.headers.get("host")
    if host is None:
        return str(request.base_url).rstrip("/")
    # As base_url says, for a tenth of its time.
    return f"{request.scope['scheme']}://{host}{request.scope.get('root_path', '')}".rstrip("/")


WithGateway = Annotated[Gateway, Depends(gateway_of)]
