"""From a line of a batch to a queued video: as a POST of its own, but behind whatever somebody waits for."""

from dataclasses import replace

from service.api.bodies import legal
from service.api.deps import Gateway
from service.api.orders import Order, accept
from service.api.videos import webhook_of
from service.batches.batch import Batch
from service.batches.lines import BatchRequest
from service.errors import InvalidRequest, TenantNotFound
from service.jobs.cache import body_fingerprint
from service.jobs.queue import JobQueue
from service.jobs.request import RequestedVideo, parse
from service.tenants import Tenant, Tenants


class BulkOrders:
    """Submits for whose tenant a batch is."""

    def __init__(self, gateway: Gateway, tenants: Tenants, queue: JobQueue) -> None:
        """queue: that fills up earlier than the gateway's own, so that batches leave room in it."""
        self._gateway = replace(gateway, queue=queue)
        self._tenants = tenants

    def submit(self, batch: Batch, request: BatchRequest) -> None:
        """Submitting again changes nothing. Raises as orders.accept()."""
        fields = legal(request.body)
        asked = parse(fields).model_copy(update={"priority": "bulk"})
        _check_secret(asked)
        if asked.extend_prompt:
            raise InvalidRequest(
                "extend_prompt is for single requests: extend a batch's prompts before it is sent.",
                param="extend_prompt",
            )
        order = Order(
            asked,
            self._tenant(batch.tenant),
            webhook=webhook_of(self._gateway, asked.webhook),
            body_fingerprint=body_fingerprint(fields),
            idempotency_key=None,
            video_id=request.video_id,
            job_id=request.job_id,
            asset_id=request.asset_id,
        )
        self._gateway.metrics.submitted.labels(accept(self._gateway, order).submitted.kind.value).inc()

    def _tenant(self, name: str) -> Tenant:
        """With half of its places: the others are for what it asks for by hand."""
        try:
            tenant = self._tenants.get(name)
        except TenantNotFound:
            return Tenant(name=name)
        num_places = tenant.max_queued
        return tenant if num_places is None else tenant.model_copy(update={"max_queued": max(1, num_places // 2)})


def _check_secret(asked: RequestedVideo) -> None:
    """One that we drew would be shown to nobody."""
    if asked.webhook is not None and asked.webhook.secret is None:
        raise InvalidRequest("webhook.secret is missing: in a batch a webhook needs one of yours.", param="webhook")
