"""Callers of one process, remembered for seconds so that polls do not ask Redis each time who polls."""

import hashlib
import time
from collections.abc import Callable
from typing import get_args

from redis import Redis

from service.errors import TenantNotFound
from service.jobs.record import DEFAULT_TENANT
from service.keys import Caller, Keys, Scope
from service.tenants import Tenant, Tenants

FRESH_SECONDS = 5.0
"""For so long at most a revoked key still works, and a tenant's old weight and limit hold."""

MAX_REMEMBERED = 10_000


class Callers:
    """Takes a client from connection.connect(), which the caller closes. Used by many threads."""

    def __init__(self, redis: Redis, *, pepper: bytes, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys = Keys(redis, pepper=pepper)
        self._tenants = Tenants(redis)
        self._clock = clock
        self._remembered: dict[bytes, tuple[float, Caller]] = {}

    def of_key(self, text: str) -> Caller:
        """Raises InvalidApiKey, QueueUnavailable.

        Only right keys are remembered, so that a wrong one takes as long whether its id exists or not.
        """
        return self._recall(_name_of(text), lambda: self._keys.check(text))

    def keyless(self) -> Caller:
        """The default tenant, for requests that need no key: everything but the service itself."""
        return self._recall(b"", self._default)

    def remembered(self, key: str | None) -> Caller | None:
        """Who was found behind a key, or without one, a moment ago; never asks Redis. None: ask."""
        return self._fresh(b"" if key is None else _name_of(key))

    def _recall(self, name: bytes, ask: Callable[[], Caller]) -> Caller:
        fresh = self._fresh(name)
        if fresh is not None:
            return fresh
        self._remembered.pop(name, None)
        # Before the answer: what changes while it travels must not be missed for longer.
        asked_at = self._clock()
        caller = ask()
        if len(self._remembered) >= MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered[name] = (asked_at, caller)
        return caller

    def _fresh(self, name: bytes) -> Caller | None:
        asked_at, caller = self._remembered.get(name, (0.0, None))
        return caller if self._clock() - asked_at < FRESH_SECONDS else None

    def _default(self) -> Caller:
        try:
            tenant = self._tenants.get(DEFAULT_TENANT)
        except TenantNotFound:
            tenant = Tenant(name=DEFAULT_TENANT)
        return Caller(tenant, get_args(Scope))


def _name_of(key: str) -> bytes:
    """No key lies in memory as it was sent."""
    return hashlib.sha256(key.encode()).digest()
