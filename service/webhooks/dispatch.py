"""Makes deliveries. Any number of gateways may, at once: what one has claimed no other gets before the claim runs out.

An event whose video was deleted, or has expired, before it was delivered is dropped: a deletion must mean that
nothing about the video leaves any more.
"""

import random
import time
import uuid
from collections.abc import Callable
from dataclasses import replace

from service.errors import Unavailable, VideoNotFound
from service.jobs.store import VideoStore
from service.logs import get_logger
from service.metrics import GatewayMetrics
from service.webhooks.deliveries import Attempt, ClaimedDelivery, Deliveries, Delivery, DeliveryState, Settlement
from service.webhooks.messenger import Message, Messenger, Sent, ShowVideo
from service.webhooks.schedule import MAX_AGE_SECONDS, next_delay

log = get_logger(__name__)


class Undeliverable(Exception):
    """A claimed delivery that needs no attempt any more."""

    def __init__(self, state: DeliveryState, reason: str) -> None:
        super().__init__(reason)
        self.settlement = Settlement(state, reason=reason)


class Dispatch:
    """One delivery at a time; many threads may share it."""

    def __init__(
        self,
        deliveries: Deliveries,
        store: VideoStore,
        messenger: Messenger,
        *,
        show: ShowVideo,
        metrics: GatewayMetrics,
        claim_seconds: float,
        clock: Callable[[], float] = time.time,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """claim_seconds: longer than an attempt can take. draw: uniform in [0, 1)."""
        self._deliveries = deliveries
        self._store = store
        self._messenger = messenger
        self._show = show
        self._metrics = metrics
        self._claim_seconds = claim_seconds
        self._clock = clock
        self._draw = draw

    def deliver_next(self) -> bool:
        """False when none is due. Raises QueueUnavailable: what was claimed then comes back by itself."""
        claimed = self._deliveries.take(token=uuid.uuid4().hex, seconds=self._claim_seconds)
        if claimed is None:
            return False
        settlement = self._attempted(claimed)
        if self._deliveries.settle(claimed, settlement):
            self._note(claimed.delivery, settlement)
        return True

    def _attempted(self, claimed: ClaimedDelivery) -> Settlement:
        try:
            sent = self._messenger.send(self._message(claimed))
        except Undeliverable as e:
            return e.settlement
        except Unavailable:
            raise
        except Exception:
            log.exception("webhook_crashed", delivery_id=claimed.delivery.id)
            failed = Attempt(at=self._clock(), duration_seconds=0.0, error="The gateway failed; its log says why.")
            return replace(self._settlement(claimed.delivery, Sent(failed)), is_own_fault=True)
        return self._settlement(claimed.delivery, sent)

    def _message(self, claimed: ClaimedDelivery) -> Message:
        """Raises Undeliverable."""
        delivery = claimed.delivery
        self._check_age(delivery)
        try:
            record = self._store.get(delivery.video_id)
        except VideoNotFound:
            raise Undeliverable(DeliveryState.DROPPED, "The video was deleted or has expired.") from None
        if delivery.endpoint_id:
            url, secrets = self._standing_receiver(claimed)
        elif record.webhook is None:
            raise Undeliverable(DeliveryState.DROPPED, "The video's record names no webhook any more.")
        else:
            url, secrets = record.webhook.url, (record.webhook.secret,)
        return Message(
            url=url,
            secrets=secrets,
            event_id=delivery.event_id,
            type=delivery.type,
            created_at=delivery.at,
            data=self._show(record),
        )

    def _check_age(self, delivery: Delivery) -> None:
        begun_at = delivery.replayed_at or delivery.created_at
        if self._clock() - begun_at > MAX_AGE_SECONDS:
            raise Undeliverable(DeliveryState.DEAD, f"Given up after {MAX_AGE_SECONDS / 86400:g} days.")

    def _standing_receiver(self, claimed: ClaimedDelivery) -> tuple[str, tuple[str, ...]]:
        endpoint = claimed.endpoint
        if endpoint is None:
            raise Undeliverable(DeliveryState.DROPPED, "The webhook endpoint was deleted.")
        if endpoint.status == "disabled":
            raise Undeliverable(DeliveryState.DEAD, "The webhook endpoint is disabled.")
        return endpoint.url, endpoint.secrets(now=self._clock())

    def _settlement(self, delivery: Delivery, sent: Sent) -> Settlement:
        if sent.is_success:
            return Settlement(DeliveryState.DELIVERED, attempt=sent.attempt)
        if sent.is_unwanted:
            reason = "The receiver answered 410: it wants no more."
            return Settlement(DeliveryState.DEAD, attempt=sent.attempt, reason=reason, disables_endpoint=True)
        num_attempts = delivery.num_attempts + 1
        delay = next_delay(num_attempts, retry_after_seconds=sent.retry_after_seconds, random=self._draw)
        if delay is None:
            reason = f"Given up after {num_attempts} attempts."
            return Settlement(DeliveryState.DEAD, attempt=sent.attempt, reason=reason)
        return Settlement(DeliveryState.PENDING, attempt=sent.attempt, delay_seconds=delay)

    def _note(self, delivery: Delivery, settlement: Settlement) -> None:
        attempt = settlement.attempt
        outcome = "retried" if settlement.state is DeliveryState.PENDING else settlement.state.value
        self._metrics.webhook_deliveries.labels(outcome).inc()
        write = log.info if settlement.state is DeliveryState.DELIVERED else log.warning
        write(
            f"webhook_{outcome}",
            delivery_id=delivery.id,
            video_id=delivery.video_id,
            status=None if attempt is None else attempt.status,
            reason=settlement.reason or (None if attempt is None else attempt.error),
            seconds=None if attempt is None else attempt.duration_seconds,
        )
