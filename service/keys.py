"""API keys: ws_<id>_<secret>. The secret is shown once and never stored; at rest there is only its HMAC."""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from redis import Redis
from redis.client import Pipeline

from service.errors import Conflict, InvalidApiKey, InvalidRequest, KeyNotFound, SettingsError
from service.jobs.connection import redis_errors
from service.jobs.lua import load_script, write_anyway
from service.jobs.record import Wire
from service.stored import record_from, text_of
from service.tenants import Tenant, stored_tenant

Scope = Literal["create", "read", "review", "admin"]
"""create: submit, cancel, delete. read: look, list, follow, download. review: decide about held videos.
admin: the service itself, /metrics, keys and limits."""

DEFAULT_SCOPES: tuple[Scope, ...] = ("create", "read")
PREFIX = "ws_"
_KEYS = "wanserve:keys"
_SHAPE = re.compile(r"ws_([0-9a-f]{16})_([0-9a-f]{64})", re.ASCII)


class ApiKey(Wire):
    """A key as it is stored: enough to check one, not to make one."""

    id: str
    tenant: str
    scopes: tuple[Scope, ...]
    digest: str
    """HMAC-SHA-256 of id and secret under the pepper, hex."""

    pepper_id: str
    """Tells peppers apart without giving one away."""

    created_at: float
    """Unix seconds."""

    expires_at: float | None = None
    """From then on it opens nothing; None: it lasts."""

    revoked_at: float | None = None
    replaced_by: str | None = None
    """The id of the key that it was rotated to."""

    requests_per_minute: int | None = None

    def is_active(self, now: float) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


NOBODYS = text_of(
    ApiKey(id="", tenant="", scopes=DEFAULT_SCOPES, digest="0" * 64, pepper_id="", created_at=0.0, revoked_at=0.0)
)
"""Stands in for an unknown id, so that checking one takes as long as checking a wrong secret."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request, and what they may do."""

    tenant: Tenant
    scopes: tuple[Scope, ...]
    key_id: str | None = None
    """None: no key was needed."""

    requests_per_minute: int | None = None


class Keys:
    """Takes a client from connection.connect(), which the caller closes. Methods raise QueueUnavailable."""

    def __init__(self, redis: Redis, *, pepper: bytes, clock: Callable[[], float] = time.time) -> None:
        self._redis = redis
        self._pepper = pepper
        self._clock = clock
        self._authenticate = load_script(redis, "authenticate")

    @redis_errors()
    def create(
        self,
        tenant: str,
        *,
        scopes: Sequence[Scope] = DEFAULT_SCOPES,
        lifetime_seconds: float | None = None,
        requests_per_minute: int | None = None,
    ) -> str:
        """A new key of a tenant that exists; this is the only time that its text is known. Raises InvalidRequest."""
        if not scopes:
            raise InvalidRequest("A key without scopes opens nothing: give some.", param="scopes")
        text, key = self._new(
            tenant,
            scopes=tuple(scopes),
            expires_at=None if lifetime_seconds is None else self._clock() + lifetime_seconds,
            requests_per_minute=requests_per_minute,
        )
        self._redis.hset(_KEYS, key.id, text_of(key))
        return text

    @redis_errors()
    def rotate(self, key_id: str, *, overlap_seconds: float) -> str:
        """A new key that may do the same; the old one ends after the overlap, or earlier if it would anyway.

        Raises KeyNotFound, and Conflict for a key that has ended or was rotated before.
        """

        made: list[str] = []

        def swap(pipeline: Pipeline) -> None:
            now = self._clock()
            old = self._stored(cast(str | None, pipeline.hget(_KEYS, key_id)), key_id)
            if not old.is_active(now) or old.replaced_by is not None:
                raise Conflict(
                    f"The key {key_id} was revoked, has ended or was rotated before: create a new one.", param="id"
                )
            text, new = self._new(
                old.tenant,
                scopes=old.scopes,
                expires_at=old.expires_at,
                requests_per_minute=old.requests_per_minute,
            )
            ends = min(now + overlap_seconds, float("inf") if old.expires_at is None else old.expires_at)
            left = old.model_copy(update={"expires_at": ends, "replaced_by": new.id})
            pipeline.multi()
            pipeline.hset(_KEYS, mapping={new.id: text_of(new), old.id: text_of(left)})
            made.append(text)

        # A revocation meanwhile must not be undone.
        self._redis.transaction(swap, _KEYS)
        return made[-1]

    @redis_errors()
    def get(self, key_id: str) -> ApiKey:
        """Raises KeyNotFound."""
        return self._stored(cast(str | None, self._redis.hget(_KEYS, key_id)), key_id)

    @redis_errors()
    def list(self) -> tuple[ApiKey, ...]:
        """The oldest first, revoked ones too. Raises RecordUnreadable."""
        stored = cast(dict[str, str], self._redis.hgetall(_KEYS))
        keys = (_stored_key(text, key_id) for key_id, text in stored.items())
        return tuple(sorted(keys, key=lambda key: key.created_at))

    @redis_errors()
    def revoke(self, key_id: str) -> ApiKey:
        """From now on the key opens nothing, within callers.FRESH_SECONDS. Twice is fine. Raises KeyNotFound."""
        stored = cast(str | None, self._redis.hget(_KEYS, key_id))
        key = self._stored(stored, key_id)
        if key.revoked_at is not None:
            return key
        revoked = key.model_copy(update={"revoked_at": self._clock()})
        # A full memory must not keep a stolen key alive.
        write_anyway(self._redis, ["HSET", _KEYS, key_id, text_of(revoked)])
        return revoked

    @redis_errors()
    def check(self, text: str) -> Caller:
        """Who holds this key: one round trip, and the same work for every well-formed text. Raises InvalidApiKey."""
        shape = _SHAPE.fullmatch(text)
        if shape is None:
            raise InvalidApiKey("This is no API key of wanserve: one begins with ws_ and is given whole.")
        key_id, secret = shape[1], shape[2]
        stored, tenant = self._authenticate(args=[key_id])
        key = _stored_key(stored or NOBODYS, key_id)
        is_right = hmac.compare_digest(key.digest, self._digest(key_id, secret))
        if not is_right or not key.is_active(self._clock()):
            raise InvalidApiKey("This API key is not known here, was revoked or has ended.")
        owner = Tenant(name=key.tenant) if tenant is None else stored_tenant(tenant, key.tenant)
        return Caller(owner, key.scopes, key_id, key.requests_per_minute)

    def check_pepper(self) -> None:
        """Raises SettingsError where active keys exist, and all of them were made under another pepper."""
        active = [key for key in self.list() if key.is_active(self._clock())]
        if active and all(key.pepper_id != self._pepper_id for key in active):
            raise SettingsError(
                "The API keys that exist were made under another pepper: give every gateway and `wanserve keys` the "
                "same WANSERVE_KEY_PEPPER, or the same WANSERVE_DATA_DIR."
            )

    def _new(
        self,
        tenant: str,
        *,
        scopes: tuple[Scope, ...],
        expires_at: float | None,
        requests_per_minute: int | None,
    ) -> tuple[str, ApiKey]:
        """Its text, and what is kept of it."""
        key_id, secret = secrets.token_hex(8), secrets.token_hex(32)
        key = ApiKey(
            id=key_id,
            tenant=tenant,
            scopes=scopes,
            digest=self._digest(key_id, secret),
            pepper_id=self._pepper_id,
            created_at=self._clock(),
            expires_at=expires_at,
            requests_per_minute=requests_per_minute,
        )
        return f"{PREFIX}{key_id}_{secret}", key

    def _stored(self, text: str | None, key_id: str) -> ApiKey:
        if text is None:
            raise KeyNotFound(f"There is no API key with the id {key_id}: `wanserve keys list` shows them.", param="id")
        return _stored_key(text, key_id)

    @property
    def _pepper_id(self) -> str:
        return hmac.new(self._pepper, b"pepper", hashlib.sha256).hexdigest()[:16]

    def _digest(self, key_id: str, secret: str) -> str:
        return hmac.new(self._pepper, f"{key_id}\n{secret}".encode(), hashlib.sha256).hexdigest()


def _stored_key(text: str, key_id: str) -> ApiKey:
    """Raises RecordUnreadable."""
    return record_from(ApiKey, text, name=f"the API key {key_id}")
