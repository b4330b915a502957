"""Between the signing library and a timestamp authority (RFC 3161): the library itself would wait for ever.

It asks us on loopback, and we ask the authority, within a deadline.
"""

import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Self

import httpx

from service.logs import get_logger

SECONDS = 10.0
MAX_BYTES = 1 << 16
QUERY, REPLY = "application/timestamp-query", "application/timestamp-reply"

log = get_logger(__name__)


class TimestampRelay:
    """Listens on loopback from its start to its end; use it as a context manager."""

    def __init__(self, authority: str, *, seconds: float = SECONDS) -> None:
        """authority: its URL. seconds: for one answer as a whole."""
        self._client = httpx.Client(timeout=seconds, trust_env=False)
        client = self._client

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                query = self.rfile.read(min(int(self.headers.get("content-length") or 0), MAX_BYTES))
                try:
                    status, reply = 200, _asked(client, authority, query, seconds=seconds)
                except (httpx.HTTPError, httpx.InvalidURL, ValueError) as e:
                    log.warning("timestamp_authority_unreachable", reason=str(e) or type(e).__name__)
                    status, reply = 504, b""
                self.send_response(status)
                self.send_header("Content-Type", REPLY)
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *arguments: object) -> None:
                """Told above."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name="timestamp-relay", daemon=True
        )

    @property
    def url(self) -> str:
        """For the library."""
        return f"http://127.0.0.1:{self._server.server_port}/"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._client.close()


def _asked(client: httpx.Client, authority: str, query: bytes, *, seconds: float) -> bytes:
    """Raises httpx.HTTPError, and ValueError for an answer that is too long."""
    ends_at = time.monotonic() + seconds
    reply = b""
    with client.stream("POST", authority, content=query, headers={"Content-Type": QUERY}) as answer:
        answer.raise_for_status()
        for chunk in answer.iter_bytes():
            reply += chunk
            if len(reply) > MAX_BYTES:
                raise ValueError("its answer is too long")
            if time.monotonic() > ends_at:
                raise httpx.ReadTimeout("its answer takes too long")
    return reply
