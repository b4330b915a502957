"""Who may talk to a gateway that asks for no key: programs on this machine, and no other website's pages.

Without this, any website could post a form to 127.0.0.1, or reach it by DNS rebinding.
"""

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.problems import problem_response
from service.errors import Forbidden, SettingsError
from service.settings import Settings


def refuse_open_bind(settings: Settings) -> None:
    """Raises SettingsError for an address that other machines can reach: there are no API keys to ask for yet."""
    if not is_loopback(settings.host):
        raise SettingsError(
            f"WANSERVE_HOST is {settings.host}: anyone who reaches that address could use the service, because "
            "this version has no API keys. Keep 127.0.0.1 and put a proxy that checks its callers before it."
        )


def is_loopback(host: str) -> bool:
    """Whether a host name or address, without port, means this machine."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class LoopbackGuard:
    """ASGI middleware: answers 403 to requests that a foreign website or a foreign name brought here."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            reason = refusal(scope["method"], Headers(scope=scope))
            if reason is not None:
                await problem_response(Forbidden(reason))(scope, receive, send)
                return
        await self._app(scope, receive, send)


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
