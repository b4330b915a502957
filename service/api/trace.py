"""Around every request: an id on its reply, a metric, a log line."""

import random
import re
import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from service.logs import get_logger
from service.metrics import GatewayMetrics

NOT_A_ROUTE = "(no route)"
PROBES = ("/health", "/ready")
NO_SNIFFING = (b"x-content-type-options", b"nosniff")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SAFE_ID = re.compile(r"^[\w.:-]{1,128}$", re.ASCII)

log = get_logger(__name__)


class RequestTrace:
    """ASGI middleware. A caller's own x-request-id is kept when it is harmless."""

    def __init__(self, app: ASGIApp, *, metrics: GatewayMetrics) -> None:
        self._app = app
        self._metrics = metrics
        # A bound logger drops at once what is not to be logged; an unbound one is made anew for each line.
        self._log = log.bind()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = scope["request_id"] = _request_id(Headers(scope=scope))
        started = time.monotonic()
        # What the reply would be if the application raised before it began one.
        status, head_seconds = 500, None

        async def send_traced(message: Message) -> None:
            nonlocal status, head_seconds
            if message["type"] == "http.response.start":
                status, head_seconds = message["status"], time.monotonic() - started
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode()), NO_SNIFFING]
            await send(message)

        # For all of the request's lines. It has a context of its own, which ends with it.
        bind_contextvars(request_id=request_id)
        try:
            await self._app(scope, receive, send_traced)
        finally:
            seconds = time.monotonic() - started if head_seconds is None else head_seconds
            self._record(scope, status, seconds)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        method, route = _method(scope), _template(scope)
        self._metrics.requests.labels(method, route, str(status)).inc()
        self._metrics.request_seconds.labels(method, route).observe(seconds)
        # Polls and probes would drown the rest.
        is_ordinary = method in ("GET", "HEAD") and (status < 400 or route in PROBES)
        write = self._log.debug if is_ordinary else self._log.info
        write("http_request", method=method, route=route, status=status, seconds=round(seconds, 4))


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if given and _SAFE_ID.match(given) else f"req_{random.getrandbits(128):032x}"


def _method(scope: Scope) -> str:
    """A caller may invent methods; they must not become metric labels."""
    return scope["method"] if scope["method"] in METHODS else "other"


def _template(scope: Scope) -> str:
    """The route's pattern, never the path itself: ids must not become metric labels."""
    route = scope.get("route")
    return NOT_A_ROUTE if route is None else str(route.path)
