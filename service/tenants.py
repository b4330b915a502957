"""Tenants: who shares the service, with which weight and limit. A tenant sees its own videos alone."""

from typing import cast

from pydantic import Field, ValidationError
from redis import Redis

from service.errors import Conflict, InvalidRequest, TenantNotFound
from service.jobs.connection import redis_errors
from service.jobs.record import Wire
from service.jobs.visible_label import LabelPolicy
from service.moderation.policy import Policy
from service.stored import record_from, text_of

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"

_TENANTS = "wanserve:tenants"


class Tenant(Wire):
    """One team, product or customer; API keys belong to it."""

    name: str = Field(pattern=NAME_PATTERN)
    weight: float = Field(1.0, gt=0, le=1000)
    """Its share of the GPUs while others wait too: 2 gets twice as much as 1."""

    max_queued: int | None = Field(None, ge=1)
    """Jobs of it that may wait at once; None: as many as the whole queue takes."""

    max_active: int | None = Field(None, ge=1)
    """Jobs of it that may wait or run at once."""

    daily_gpu_seconds: float | None = Field(None, ge=0, le=1e9)
    """GPU time that it may use a day (UTC), estimated when a job is submitted and settled when it ends."""

    moderation: Policy = Policy()
    """What its prompts may ask for, and what a person looks at first."""

    label: LabelPolicy = LabelPolicy()
    """What viewers see on its videos."""

    @classmethod
    def checked(cls, **fields: object) -> "Tenant":
        """A tenant from outside. Raises InvalidRequest, which says what is legal."""
        try:
            return cls.model_validate(fields)
        except ValidationError as e:
            problem = e.errors(include_url=False)[0]
            param = str(problem["loc"][0])
            legal = (
                problem["msg"]
                if param != "name"
                else "must be lower-case letters, digits, '.', '_' and '-', at most 64"
            )
            raise InvalidRequest(f"The tenant's {param}: {legal}.", param=param) from e


def stored_tenant(text: str, name: str) -> Tenant:
    """Raises RecordUnreadable."""
    return record_from(Tenant, text, name=f"the tenant {name}")


class Tenants:
    """Takes a client from connection.connect(), which the caller closes. Methods raise QueueUnavailable."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    @redis_errors()
    def create(self, tenant: Tenant) -> None:
        """Raises Conflict when the name is taken."""
        if not self._redis.hsetnx(_TENANTS, tenant.name, text_of(tenant)):
            raise Conflict(f"The tenant {tenant.name} exists already.", param="name")

    @redis_errors()
    def get(self, name: str) -> Tenant:
        """Raises TenantNotFound, RecordUnreadable."""
        stored = cast(str | None, self._redis.hget(_TENANTS, name))
        if stored is None:
            raise TenantNotFound(f"There is no tenant {name}.", param="name")
        return stored_tenant(stored, name)

    @redis_errors()
    def list(self) -> tuple[Tenant, ...]:
        """By name. Raises RecordUnreadable."""
        stored = cast(dict[str, str], self._redis.hgetall(_TENANTS))
        return tuple(stored_tenant(text, name) for name, text in sorted(stored.items()))

    @redis_errors()
    def update(self, tenant: Tenant) -> None:
        """Write the tenant's weight and limits anew; gateways see them within seconds. Raises TenantNotFound."""
        self.get(tenant.name)
        self._redis.hset(_TENANTS, tenant.name, text_of(tenant))
