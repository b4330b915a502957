"""Standing endpoints: receivers of a tenant's events. Every method raises QueueUnavailable without Redis."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, cast

from pydantic import BeforeValidator, Field
from redis import Redis

from service.errors import EndpointNotFound, InvalidRequest
from service.jobs.connection import redis_errors
from service.jobs.lua import load_script
from service.jobs.record import EVENT_TYPES, EventType, Wire
from service.stored import readable, record_from
from service.webhooks.secret import new_secret

PACKAGE = "service.webhooks"
MAX_ENDPOINTS = 16
"""Of a tenant: each event is compared with all of them."""

ROTATION_SECONDS = 24 * 3600.0


def _words(value: object) -> object:
    return value.split() if isinstance(value, str) else value


class Endpoint(Wire):
    """As it lies in Redis, a hash."""

    id: str
    tenant: str
    url: str
    name: str = ""
    event_types: Annotated[tuple[EventType, ...], BeforeValidator(_words)] = EVENT_TYPES
    status: Literal["enabled", "disabled"]
    disabled_reason: str | None = None
    created_at: float
    """Unix seconds on Redis' clock, as all stamps here. Older events are not for it."""

    updated_at: float
    secret: str = Field(repr=False)
    previous_secret: str | None = Field(None, repr=False)
    previous_until: float = 0.0
    """So long the previous secret signs too."""

    def secrets(self, *, now: float) -> tuple[str, ...]:
        """Those that sign, the newest first."""
        is_rotating = self.previous_secret is not None and now < self.previous_until
        return (self.secret, self.previous_secret) if is_rotating and self.previous_secret else (self.secret,)


class Endpoints:
    """Takes a client from connection.connect(), which the caller closes."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._create = load_script(redis, "create_endpoint", package=PACKAGE)
        self._change = load_script(redis, "change_endpoint", package=PACKAGE)
        self._rotate = load_script(redis, "rotate_secret", package=PACKAGE)
        self._delete = load_script(redis, "delete_endpoint", package=PACKAGE)

    @redis_errors()
    def create(self, *, tenant: str, url: str, name: str, event_types: Sequence[EventType]) -> Endpoint:
        """With a secret of its own. Raises InvalidRequest when the tenant has MAX_ENDPOINTS already."""
        endpoint_id = f"endpoint_{uuid.uuid4().hex}"
        fields = _fields(url=url, name=name, event_types=event_types)
        answer = self._create(args=[tenant, endpoint_id, MAX_ENDPOINTS, "secret", new_secret(), *fields])
        if answer == "full":
            raise InvalidRequest(f"There are {MAX_ENDPOINTS} webhook endpoints already: delete one first.", param="url")
        return self.get(endpoint_id, tenant=tenant)

    @redis_errors()
    def get(self, endpoint_id: str, *, tenant: str) -> Endpoint:
        """Raises EndpointNotFound, for another tenant's too."""
        fields = cast(Mapping[str, str], self._redis.hgetall(_key(endpoint_id)))
        if fields.get("tenant") != tenant:
            raise _not_found(endpoint_id)
        return record_from(Endpoint, fields, name=endpoint_id)

    @redis_errors()
    def list(self, *, tenant: str) -> tuple[Endpoint, ...]:
        """The newest first."""
        ids = cast(Sequence[str], self._redis.zrange(f"wanserve:tenant:{tenant}:endpoints", 0, -1, desc=True))
        with self._redis.pipeline(transaction=False) as pipeline:
            for endpoint_id in ids:
                pipeline.hgetall(_key(endpoint_id))
            return tuple(readable(Endpoint, pipeline.execute()))

    @redis_errors()
    def change(
        self,
        endpoint_id: str,
        *,
        tenant: str,
        url: str | None = None,
        name: str | None = None,
        event_types: Sequence[EventType] | None = None,
        is_enabled: bool | None = None,
    ) -> Endpoint:
        """None leaves a field as it is. What waits for the endpoint is tried again at once. Raises EndpointNotFound."""
        fields = _fields(url=url, name=name, event_types=event_types)
        if is_enabled is not None:
            fields += ["status", "enabled" if is_enabled else "disabled"]
        if fields and self._change(args=[tenant, endpoint_id, *fields]) == "missing":
            raise _not_found(endpoint_id)
        return self.get(endpoint_id, tenant=tenant)

    @redis_errors()
    def rotate_secret(self, endpoint_id: str, *, tenant: str, keeps_old: bool) -> Endpoint:
        """A new secret; the old one signs beside it for ROTATION_SECONDS, or never again. Raises EndpointNotFound."""
        seconds = ROTATION_SECONDS if keeps_old else 0.0
        if self._rotate(args=[tenant, endpoint_id, new_secret(), seconds]) == "missing":
            raise _not_found(endpoint_id)
        return self.get(endpoint_id, tenant=tenant)

    @redis_errors()
    def delete(self, endpoint_id: str, *, tenant: str) -> None:
        """With its deliveries, those that wait too. Raises EndpointNotFound."""
        if self._delete(args=[tenant, endpoint_id, uuid.uuid4().hex]) == "missing":
            raise _not_found(endpoint_id)


def _fields(*, url: str | None, name: str | None, event_types: Sequence[EventType] | None) -> list[str]:
    events = None if event_types is None else " ".join(event_types)
    pairs = {"url": url, "name": name, "event_types": events}
    return [text for field, value in pairs.items() if value is not None for text in (field, value)]


def _key(endpoint_id: str) -> str:
    return f"wanserve:endpoint:{endpoint_id}"


def _not_found(endpoint_id: str) -> EndpointNotFound:
    return EndpointNotFound(f"There is no webhook endpoint {endpoint_id}.", param="id")
