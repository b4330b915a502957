"""Who makes a request: the caller behind `Authorization: Bearer ws_…`, or the default tenant where no key is needed."""

from typing import Annotated

from fastapi import Request, Security
from fastapi.security import HTTPBearer
from fastapi.security.base import SecurityBase
from fastapi.security.utils import get_authorization_scheme_param
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers

from service.api.audited import note_caller
from service.api.deps import Gateway, gateway_in
from service.errors import MissingApiKey, ScopeMissing
from service.keys import PREFIX, Caller, Scope
from service.loopback import asks_for_keys
from service.settings import Settings
from service.tenants import Tenant

_BEARER = HTTPBearer(
    auto_error=False, scheme_name="API key", description="ws_…; not needed on loopback unless settings say so."
)
SHOWN_KEY = Security(_BEARER)
"""A dependency that refuses nobody: it only puts the key into /openapi.json."""


def key_in(headers: Headers, settings: Settings) -> str | None:
    """The API key that a request brings.

    Clients like the openai SDK always send one. Where none is needed, words that are no key of ours are none.
    """
    scheme, text = get_authorization_scheme_param(headers.get("authorization"))
    if scheme.lower() != "bearer" or not text:
        return None
    return text if text.startswith(PREFIX) or asks_for_keys(settings) else None


async def caller_of(gateway: Gateway, request: Request) -> Caller:
    """Raises MissingApiKey, InvalidApiKey, QueueUnavailable."""
    key = key_in(request.headers, gateway.settings)
    if key is None and asks_for_keys(gateway.settings):
        raise MissingApiKey("An API key is needed: send it as Authorization: Bearer ws_…", param="Authorization")
    # Another thread costs more than all the rest of this.
    remembered = gateway.callers.remembered(key)
    if remembered is not None:
        return remembered
    if key is not None:
        return await run_in_threadpool(gateway.callers.of_key, key)
    return await run_in_threadpool(gateway.callers.keyless)


async def tenant_with(scope: Scope, gateway: Gateway, request: Request) -> Tenant:
    """The caller's tenant. Raises ScopeMissing, TooManyRequests, and as caller_of()."""
    caller = await caller_of(gateway, request)
    note_caller(caller)
    if scope not in caller.scopes:
        has = ", ".join(caller.scopes)
        raise ScopeMissing(f"This API key may not do that: it has the scopes {has}, and needs {scope}.")
    if caller.key_id is not None and caller.requests_per_minute is not None:
        await run_in_threadpool(gateway.rates.take, caller.key_id, per_minute=caller.requests_per_minute)
    return caller.tenant


class Needs(SecurityBase):
    """A dependency: the tenant of a caller with this scope. It stands for the key in /openapi.json too."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self.model, self.scheme_name = _BEARER.model, _BEARER.scheme_name

    async def __call__(self, request: Request) -> Tenant:
        return await tenant_with(self._scope, gateway_in(request), request)


class NeedsAdminKey(Needs):
    """A key with the scope admin, on loopback too: who may make keys must hold one."""

    def __init__(self) -> None:
        super().__init__("admin")

    async def __call__(self, request: Request) -> Tenant:
        gateway = gateway_in(request)
        if (await caller_of(gateway, request)).key_id is None:
            raise MissingApiKey(
                "This needs an API key with the scope admin: `wanserve keys create --tenant ops --scopes admin` makes "
                "the first one.",
                param="Authorization",
            )
        return await super().__call__(request)


WithReader = Annotated[Tenant, Security(Needs("read"))]
"""The tenant of a caller who may look, list, follow and download."""

WithCreator = Annotated[Tenant, Security(Needs("create"))]
"""The tenant of a caller who may submit, cancel and delete."""

WithReviewer = Annotated[Tenant, Security(Needs("review"))]
"""The tenant of a caller who may approve and reject."""

WithAdmin = Annotated[Tenant, Security(NeedsAdminKey())]
"""The tenant of a caller who may make keys and set limits."""
