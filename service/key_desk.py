"""Where `wanserve keys` does its work: on the Redis of this machine, or at a server by its admin API."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from pydantic import BaseModel

from service.errors import TenantNotFound
from service.keys import Keys, Scope
from service.server_client import ServerClient, quoted
from service.settings import Settings
from service.tenants import Tenant, Tenants


class KeyRow(Protocol):
    """A key as both sides show it."""

    @property
    def id(self) -> str: ...
    @property
    def tenant(self) -> str: ...
    @property
    def scopes(self) -> Sequence[Scope]: ...
    @property
    def requests_per_minute(self) -> int | None: ...
    @property
    def created_at(self) -> float: ...
    @property
    def expires_at(self) -> float | None: ...
    @property
    def revoked_at(self) -> float | None: ...


@dataclass(frozen=True, slots=True)
class NewKey:
    tenant: str
    scopes: tuple[Scope, ...]
    lifetime_seconds: float | None
    requests_per_minute: int | None


class KeyDesk(Protocol):
    """Every method raises ServiceError in words for the operator."""

    def put_tenant(self, name: str, given: Mapping[str, object]) -> Tenant:
        """The tenant with what was given for it; what was not stays as it was."""
        ...

    def create(self, key: NewKey) -> str:
        """Its text."""
        ...

    def keys(self) -> Sequence[KeyRow]: ...
    def tenants(self) -> Sequence[Tenant]: ...
    def rotate(self, key_id: str, *, overlap_seconds: float) -> tuple[KeyRow, str]:
        """The old key, and the new one's text."""
        ...

    def revoke(self, key_id: str) -> KeyRow: ...


class LocalDesk:
    """Of whoever can reach Redis and knows the pepper."""

    def __init__(self, keys: Keys, tenants: Tenants) -> None:
        self._keys = keys
        self._tenants = tenants

    def put_tenant(self, name: str, given: Mapping[str, object]) -> Tenant:
        self._keys.check_pepper()
        try:
            before = self._tenants.get(name)
        except TenantNotFound:
            tenant = Tenant.checked(name=name, **given)
            self._tenants.create(tenant)
            return tenant
        tenant = Tenant.checked(**{**before.model_dump(), **given})
        if tenant != before:
            self._tenants.update(tenant)
        return tenant

    def create(self, key: NewKey) -> str:
        return self._keys.create(
            key.tenant,
            scopes=key.scopes,
            lifetime_seconds=key.lifetime_seconds,
            requests_per_minute=key.requests_per_minute,
        )

    def keys(self) -> Sequence[KeyRow]:
        return self._keys.list()

    def tenants(self) -> Sequence[Tenant]:
        return self._tenants.list()

    def rotate(self, key_id: str, *, overlap_seconds: float) -> tuple[KeyRow, str]:
        self._keys.check_pepper()
        text = self._keys.rotate(key_id, overlap_seconds=overlap_seconds)
        return self._keys.get(key_id), text

    def revoke(self, key_id: str) -> KeyRow:
        return self._keys.revoke(key_id)


class SeenKey(BaseModel):
    id: str
    tenant: str
    scopes: list[Scope]
    requests_per_minute: int | None = None
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None


class _SeenNewKey(SeenKey):
    key: str


class _SeenKeys(BaseModel):
    data: list[SeenKey]


class _SeenTenants(BaseModel):
    data: list[Tenant]


class RemoteDesk(ServerClient):
    """Of whoever holds a key with the scope admin."""

    def put_tenant(self, name: str, given: Mapping[str, object]) -> Tenant:
        known = {tenant.name: tenant for tenant in self.tenants()}
        # Checked here too: the words are then those of this machine's desk.
        tenant = Tenant.checked(**{**(known[name].model_dump() if name in known else {"name": name}), **given})
        if known.get(name) == tenant:
            return tenant
        return self.ask(Tenant, "PUT", f"/admin/tenants/{quoted(name)}", json=tenant.model_dump(exclude={"name"}))

    def create(self, key: NewKey) -> str:
        fields = {
            "tenant": key.tenant,
            "scopes": list(key.scopes),
            "lifetime_seconds": None if key.lifetime_seconds is None else round(key.lifetime_seconds),
            "requests_per_minute": key.requests_per_minute,
        }
        return self.ask(_SeenNewKey, "POST", "/admin/keys", json=fields).key

    def keys(self) -> Sequence[KeyRow]:
        return self.ask(_SeenKeys, "GET", "/admin/keys").data

    def tenants(self) -> Sequence[Tenant]:
        return self.ask(_SeenTenants, "GET", "/admin/tenants").data

    def rotate(self, key_id: str, *, overlap_seconds: float) -> tuple[KeyRow, str]:
        asked = {"overlap_seconds": round(overlap_seconds)}
        text = self.ask(_SeenNewKey, "POST", f"/admin/keys/{quoted(key_id)}/rotate", json=asked).key
        [old] = [key for key in self.keys() if key.id == key_id]
        return old, text

    def revoke(self, key_id: str) -> KeyRow:
        return self.ask(SeenKey, "DELETE", f"/admin/keys/{quoted(key_id)}")


@contextmanager
def local_desk(settings: Settings) -> Iterator[LocalDesk]:
    """Borrows the embedded Redis where none is configured."""
    from service.embedded import borrowed_redis
    from service.jobs.connection import connect

    with borrowed_redis(settings) as url, connect(url) as redis:
        yield LocalDesk(Keys(redis, pepper=settings.pepper()), Tenants(redis))
