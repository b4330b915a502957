"""Deliveries: an event on its way to one receiver. Every method raises QueueUnavailable without Redis.

Events come from the outbox alone. A delivery is claimed for a while, and is anybody's again if its claimant says
nothing: it is made at least once, whatever is killed.
"""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, cast

from pydantic import BeforeValidator, TypeAdapter
from redis import Redis

from service.errors import Conflict, DeliveryNotFound, InvalidRequest, RecordTooNew, RecordUnreadable
from service.jobs.connection import redis_errors
from service.jobs.execution import Verdict
from service.jobs.lua import load_script
from service.jobs.record import EventType, Wire
from service.logs import get_logger
from service.stored import readable, record_from
from service.webhooks.endpoints import PACKAGE, Endpoint

_OUTBOX = "wanserve:outbox"
_CURSOR = "wanserve:webhooks:cursor"
HAND_ON_LIMIT = 100
MAX_ATTEMPTS_KEPT = 20

log = get_logger(__name__)


class DeliveryState(StrEnum):
    PENDING = "pending"
    """An attempt is to come."""

    DELIVERED = "delivered"
    """The receiver answered with 2xx."""

    DEAD = "dead"
    """Given up; can be replayed."""

    DROPPED = "dropped"
    """There is nothing to tell any more: the video was deleted or has expired."""


class Attempt(Wire):
    """One try. Never a body, never a secret."""

    at: float
    """Unix seconds, the gateway's clock."""

    duration_seconds: float
    status: int | None = None
    """None when there was no reply."""

    error: str | None = None


def _from_json(value: object) -> object:
    return json.loads(value) if isinstance(value, str) else value


Attempts = Annotated[tuple[Attempt, ...], BeforeValidator(_from_json)]


class Delivery(Wire):
    """As it lies in Redis, a hash."""

    id: str
    tenant: str
    owner: str
    """An endpoint's id or, for a video's own webhook, the video's."""

    endpoint_id: str = ""
    """Empty for a video's own webhook."""

    event_id: str
    """The same for every receiver of the event, and for every attempt."""

    type: EventType
    video_id: str
    at: float
    """When the video ended."""

    state: DeliveryState
    created_at: float
    replayed_at: float | None = None
    next_attempt_at: float | None = None
    num_attempts: int
    """Since it was created or replayed."""

    attempts: Attempts = ()
    """The last MAX_ATTEMPTS_KEPT, the newest last."""

    reason: str | None = None
    """Why it is dead or dropped."""


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A delivery that is ours for a while."""

    delivery: Delivery
    endpoint: Endpoint | None
    """None for a video's own webhook, and where the endpoint is gone."""

    token: str


@dataclass(frozen=True, slots=True)
class Settlement:
    """What becomes of a claimed delivery."""

    state: DeliveryState
    attempt: Attempt | None = None
    """None when nothing was sent."""

    delay_seconds: float = 0.0
    """Until the next attempt, while pending."""

    reason: str | None = None
    disables_endpoint: bool = False
    is_own_fault: bool = False
    """The attempt tells nothing about the receiver."""


@dataclass(frozen=True, slots=True)
class HandedOn:
    """One look at the outbox."""

    num_events: int
    is_any_due: bool
    """Whether a delivery may be claimed now."""

    untold: tuple[str, ...]
    """Videos whose records were gone, or unreadable, before anybody could be told."""


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    """The newest first."""

    deliveries: tuple[Delivery, ...]
    has_more: bool


class Deliveries:
    """Takes a client from connection.connect(), which the caller closes."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._hand_on = load_script(redis, "hand_on", package=PACKAGE)
        self._take = load_script(redis, "take", package=PACKAGE)
        self._settle = load_script(redis, "settle", package=PACKAGE)
        self._replay = load_script(redis, "replay", package=PACKAGE)

    @redis_errors()
    def hand_on(self) -> HandedOn:
        """Make deliveries of the next events, at most HAND_ON_LIMIT."""
        num_events, is_any_due, *untold = self._hand_on(args=[HAND_ON_LIMIT])
        return HandedOn(num_events=num_events, is_any_due=bool(is_any_due), untold=tuple(untold))

    @redis_errors()
    def wait_for_events(self, *, timeout_seconds: float) -> None:
        """Returns at once while there are events that were not handed on."""
        cursor = cast(str | None, self._redis.get(_CURSOR)) or "0-0"
        self._redis.xread({_OUTBOX: cursor}, count=1, block=round(timeout_seconds * 1000))

    @redis_errors()
    def take(self, *, token: str, seconds: float) -> ClaimedDelivery | None:
        """Claim the next delivery that is due. The same token gives the same one again."""
        answer = self._take(args=[token, seconds])
        if answer is None:
            return None
        delivery, endpoint = (_pairs(flat) for flat in answer)
        try:
            return ClaimedDelivery(
                delivery=record_from(Delivery, delivery, name=delivery["id"]),
                endpoint=record_from(Endpoint, endpoint, name=endpoint["id"]) if endpoint else None,
                token=token,
            )
        except RecordTooNew as e:
            # A gateway of the newer version takes it once this claim has run out.
            log.warning("delivery_too_new", delivery_id=delivery["id"], reason=e.message)
            return None
        except RecordUnreadable as e:
            log.error("delivery_unreadable", delivery_id=delivery["id"], reason=e.message)
            self._write_end(
                delivery["id"], token, Settlement(DeliveryState.DROPPED, reason="Its record is unreadable.")
            )
            return None

    @redis_errors()
    def settle(self, claimed: ClaimedDelivery, settlement: Settlement) -> bool:
        """False when the claim had run out and somebody else has the delivery now."""
        delivery, attempt = claimed.delivery, settlement.attempt
        attempts = delivery.attempts if attempt is None else (*delivery.attempts, attempt)
        num_attempts = delivery.num_attempts + (attempt is not None)
        return self._write_end(delivery.id, claimed.token, settlement, attempts=attempts, num_attempts=num_attempts)

    @redis_errors()
    def list(
        self, owner: str, *, tenant: str, state: DeliveryState | None = None, after: str | None = None, limit: int = 20
    ) -> DeliveryPage:
        """An owner's, the newest first. Raises InvalidRequest(param="after") for an id that is not among them."""
        key = f"wanserve:deliveries:{owner}:{state or 'all'}"
        first = 0
        if after is not None:
            rank = cast(int | None, self._redis.zrevrank(key, after))
            if rank is None:
                raise InvalidRequest(f"after: there is no delivery {after} in this list.", param="after")
            first = rank + 1
        ids = cast(Sequence[str], self._redis.zrange(key, first, first + limit, desc=True))
        found = self._read(ids[:limit])
        return DeliveryPage(
            deliveries=tuple(delivery for delivery in found if delivery.tenant == tenant), has_more=len(ids) > limit
        )

    @redis_errors()
    def replay(self, delivery_id: str, *, owner: str, tenant: str) -> Delivery:
        """Begin its schedule anew, now. Raises DeliveryNotFound, Conflict."""
        match self._replay(args=[tenant, owner, delivery_id, uuid.uuid4().hex]):
            case "missing":
                raise DeliveryNotFound(f"There is no delivery {delivery_id} here.", param="id")
            case "pending":
                raise Conflict("The delivery is on its way already.", param="id")
            case "disabled":
                raise Conflict("The webhook endpoint is disabled: enable it first.", param="id")
            case _:
                return self._read([delivery_id])[0]

    def _write_end(
        self,
        delivery_id: str,
        token: str,
        settlement: Settlement,
        *,
        attempts: Sequence[Attempt] = (),
        num_attempts: int = 0,
    ) -> bool:
        arguments = {
            "id": delivery_id,
            "token": token,
            "state": settlement.state,
            "delay_seconds": settlement.delay_seconds,
            "num_attempts": num_attempts,
            "attempts": _Attempts.dump_json(tuple(attempts[-MAX_ATTEMPTS_KEPT:]), exclude_none=True).decode(),
            "tells_of_target": settlement.attempt is not None and not settlement.is_own_fault,
            "disables": settlement.disables_endpoint,
            **({} if settlement.reason is None else {"reason": settlement.reason}),
        }
        verdict = Verdict(self._settle(args=[json.dumps(arguments, ensure_ascii=False)]))
        return verdict is not Verdict.LOST

    def _read(self, ids: Sequence[str]) -> Sequence[Delivery]:
        with self._redis.pipeline(transaction=False) as pipeline:
            for delivery_id in ids:
                pipeline.hgetall(f"wanserve:delivery:{delivery_id}")
            return list(readable(Delivery, pipeline.execute()))


_Attempts = TypeAdapter(tuple[Attempt, ...])


def _pairs(flat: Sequence[Any]) -> dict[str, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
