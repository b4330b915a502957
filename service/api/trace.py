"""Around every request: an id on its reply, a metric, a log line."""

import random
import re
import time
from collections.abc import Iterator, Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from service.logs import get_logger
from service.metrics import GatewayMetrics
from service.tracing import NO_SPAN, NO_TRACING, Attributes, Span, Tracing, make_current

NOT_A_ROUTE = "(no route)"
PROBES = ("/health", "/ready")
DEFAULTS = (
    (b"x-content-type-options", b"nosniff"),
    # Links are signed: their addresses must not go to other sites.
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"frame-ancestors 'none'"),
)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SAFE_ID = re.compile(r"^[\w.:-]{1,128}$", re.ASCII)

log = get_logger(__name__)


class RequestTrace:
    """ASGI middleware. A caller's own x-request-id is kept when it is harmless."""

    def __init__(self, app: ASGIApp, *, metrics: GatewayMetrics, tracing: Tracing) -> None:
        self._app = app
        self._metrics = metrics
        self._tracing = tracing
        # A bound logger drops at once what is not to be logged; an unbound one is made anew for each line.
        self._log = log.bind()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = scope["request_id"] = _request_id(Headers(scope=scope))
        span = self._start_span(scope)
        started = time.monotonic()
        # What the reply would be if the application raised before it began one.
        status, head_seconds = 500, None

        async def send_traced(message: Message) -> None:
            nonlocal status, head_seconds
            if message["type"] == "http.response.start":
                status, head_seconds = message["status"], time.monotonic() - started
                own = [*message["headers"], (b"x-request-id", request_id.encode())]
                message["headers"] = [*own, *_defaults(own)]
            await send(message)

        # For all of the request's lines. It has a context of its own, which ends with it.
        bind_contextvars(request_id=request_id)
        if span is not NO_SPAN:
            make_current(span)
        try:
            await self._app(scope, receive, send_traced)
        finally:
            seconds = time.monotonic() - started if head_seconds is None else head_seconds
            self._record(scope, status, seconds)
            self._end_span(span, scope, status)

    def _start_span(self, scope: Scope) -> Span:
        """Of what changes something, and of what a caller traces itself: polls would drown the rest."""
        if self._tracing is NO_TRACING:
            return NO_SPAN
        parent = Headers(scope=scope).get("traceparent")
        if scope["method"] in ("GET", "HEAD") and parent is None:
            return NO_SPAN
        return self._tracing.start(_method(scope), parent=parent, is_server=True)

    @staticmethod
    def _end_span(span: Span, scope: Scope, status: int) -> None:
        if span is NO_SPAN:
            return
        method, route = _method(scope), _template(scope)
        attributes: Attributes = {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": status,
            "wanserve.request_id": str(scope["request_id"]),
        }
        span.end(name=f"{method} {route}", attributes=attributes, error=str(status) if status >= 500 else None)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        method, route = _method(scope), _template(scope)
        self._metrics.requests.labels(method, route, str(status)).inc()
        self._metrics.request_seconds.labels(method, route).observe(seconds)
        # Polls and probes would drown the rest.
        is_ordinary = method in ("GET", "HEAD") and (status < 400 or route in PROBES)
        write = self._log.debug if is_ordinary else self._log.info
        write("http_request", method=method, route=route, status=status, seconds=round(seconds, 4))


def _defaults(headers: Sequence[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """What a reply says for the browser's sake, unless it says otherwise itself."""
    # Starlette writes names in lower case.
    given = dict(headers)
    yield from (default for default in DEFAULTS if default[0] not in given)
    # What a caller's own key opened must lie in no cache.
    if b"cache-control" not in given and given.get(b"content-type", b"").startswith(b"application/json"):
        yield b"cache-control", b"no-store"


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
