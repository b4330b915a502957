"""Around every call that may change something: an audit entry, which auth, handlers and error replies fill in."""

from collections.abc import Mapping
from contextvars import ContextVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.audit import AuditEntry
from service.keys import Caller

CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_entry: ContextVar[AuditEntry | None] = ContextVar("audit_entry", default=None)
"""Of this call; None where it changes nothing. Threads of handlers see it too."""


def note_caller(caller: Caller) -> None:
    entry = _entry.get()
    if entry is not None:
        entry.tenant, entry.key_id = caller.tenant.name, caller.key_id


def caller_key_id() -> str | None:
    """Of the API key behind this call; None where it needed none."""
    entry = _entry.get()
    return None if entry is None else entry.key_id


def note_prompts(prompts: Mapping[str, str]) -> None:
    """prompt and negative_prompt; what is written of them the log decides."""
    entry = _entry.get()
    if entry is not None:
        entry.prompts = dict(prompts)


def note_target(name: str, target: str) -> None:
    """What was made: "video_id" and its id, say. Ids in the path are known already."""
    entry = _entry.get()
    if entry is not None:
        entry.targets[name] = target


def note_code(code: str) -> None:
    """Why it was not done."""
    entry = _entry.get()
    if entry is not None:
        entry.code = code


class AuditTrail:
    """ASGI middleware, inside RequestTrace. What leads to no route changes nothing, and is left to the log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in CHANGING:
            await self._app(scope, receive, send)
            return
        # What it is when the application raises before it replies.
        entry = AuditEntry(request_id=scope["request_id"], status=500, code="internal_error")
        token = _entry.set(entry)

        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                entry.status = message["status"]
                if entry.status < 400:
                    entry.code = None
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        finally:
            _entry.reset(token)
            self._write(scope, entry)

    def _write(self, scope: Scope, entry: AuditEntry) -> None:
        route = scope.get("route")
        if route is None or scope["method"] not in (route.methods or ()):
            return
        entry.action = route.name
        entry.targets = {**scope["path_params"], **entry.targets}
        scope["app"].state.gateway.audit.write(entry)
