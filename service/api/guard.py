"""Who may talk to a gateway that asks for no key: programs on this machine, and no other website's pages.

Without this, any website could post a form to 127.0.0.1, or reach it by DNS rebinding. A valid key lets anyone in
by any name: a foreign page can't send one, since nothing here lets browsers add the header across sites. A gateway
that asks for keys needs no such guard.
"""

import time
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.auth import key_in
from service.api.deps import Gateway
from service.api.problems import problem_response
from service.errors import Forbidden, QueueUnavailable, ServiceError, SettingsError
from service.jobs.connection import connect
from service.keys import Keys
from service.logs import get_logger
from service.loopback import asks_for_keys, is_loopback
from service.settings import Settings

log = get_logger(__name__)


def refuse_without_keys(settings: Settings) -> None:
    """Raises SettingsError for a gateway that asks for keys while none exists that would open it.

    settings.redis_url must be set. While Redis does not answer nobody can know: no request gets in either.
    """
    if not asks_for_keys(settings) or settings.redis_url is None:
        return
    try:
        with connect(settings.redis_url) as redis:
            keys = Keys(redis, pepper=settings.pepper())
            has_keys = any(key.is_active(time.time()) for key in keys.list())
            keys.check_pepper()
    except QueueUnavailable as e:
        log.warning("api_keys_not_looked_up", error=e.message)
        return
    if not has_keys:
        raise SettingsError(
            f"{_why(settings)}, and none exists yet: make one with `wanserve keys create --tenant NAME`."
        )


def _why(settings: Settings) -> str:
    host = settings.host
    return "WANSERVE_REQUIRE_KEYS asks for API keys" if is_loopback(host) else f"WANSERVE_HOST {host} needs API keys"


class LoopbackGuard:
    """ASGI middleware: answers 403 to requests that a foreign website or a foreign name brought here without a key."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            reason = refusal(scope["method"], Headers(scope=scope))
            error = None if reason is None else await _unless_known(scope, Forbidden(reason))
            if error is not None:
                await problem_response(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def _unless_known(scope: Scope, refused: Forbidden) -> ServiceError | None:
    """None for a caller with a valid key; else what the request is answered with."""
    gateway: Gateway = scope["app"].state.gateway
    key = key_in(Headers(scope=scope), gateway.settings)
    if key is None:
        return refused
    try:
        await run_in_threadpool(gateway.callers.of_key, key)
    except ServiceError as e:
        return e
    return None


def refusal(method: str, headers: Headers) -> str | None:
    """Why a request is refused, or None. Pure."""
    host = headers.get("host", "")
    if not is_loopback(_name_of(host)):
        return f"Host {host!r} is not this machine: without API keys only 127.0.0.1 and localhost are served."
    origin = headers.get("origin")
    if origin is not None and _place_of(origin) != host.lower():
        return f"A page of {origin} may not use this service: without API keys only its own pages may."
    if headers.get("sec-fetch-site", "none") in ("same-origin", "none"):
        return None
    if _is_followed_link(method, headers):
        return None
    return "A page of another site may not use this service: without API keys only its own pages may."


def _place_of(origin: str) -> str | None:
    """Host and port; a malformed Origin names no place, and is foreign everywhere."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _name_of(host: str) -> str:
    """Without the port; a malformed Host names nothing."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_followed_link(method: str, headers: Headers) -> bool:
    """Someone clicked a link: the browser shows the page, and the other site can't read it."""
    return (
        method in ("GET", "HEAD")
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
    )
