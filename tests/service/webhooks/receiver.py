"""A real webhook receiver on loopback that may be as hostile as it likes."""

import contextlib
import json
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

Behaviour = Callable[[socket.socket, threading.Event], None]
"""What is done to the sender after its request was read; the event is set when the receiver closes."""


@dataclass(frozen=True, slots=True)
class Received:
    """One request."""

    line: str
    headers: dict[str, str]
    """Names in lower case."""

    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        fields = json.loads(self.body)
        assert isinstance(fields, dict)
        return fields


class HookReceiver:
    """Listens on a free port while its block runs. `behaviour` may be changed at any time."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.received: list[Received] = []
        self.behaviour: Behaviour = answer(204)
        self.closing = threading.Event()
        self._tls = tls
        self._server = _Server(("127.0.0.1", 0), self._serve)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def _serve(self, connection: socket.socket) -> None:
        """A sender that gave up is no error here."""
        with contextlib.suppress(OSError):
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection:
                self.received.append(_read(connection))
                self.behaviour(connection, self.closing)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def answer(status: int, **headers: str) -> Behaviour:
    """A well-behaved reply; underscores in names of headers become dashes."""

    def behave(connection: socket.socket, _closing: threading.Event) -> None:
        lines = [f"HTTP/1.1 {status} Whatever", "Content-Length: 0"]
        lines += [f"{name.replace('_', '-')}: {text}" for name, text in headers.items()]
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())

    return behave


def hang(_connection: socket.socket, closing: threading.Event) -> None:
    """Reads, and never says a word."""
    closing.wait()


def drip(connection: socket.socket, closing: threading.Event) -> None:
    """A byte of a header every 50 ms, for ever: no single read times out."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not closing.wait(0.05):
        connection.sendall(b"a")


def continue_for_ever(connection: socket.socket, closing: threading.Event) -> None:
    while not closing.wait(0.05):
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


def endless_body(connection: socket.socket, closing: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not closing.is_set():
        connection.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")


def endless_headers(connection: socket.socket, closing: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while not closing.is_set():
        connection.sendall(b"X-More: " + b"x" * 8192 + b"\r\n")


def garbage(connection: socket.socket, _closing: threading.Event) -> None:
    connection.sendall(bytes(range(256)) * 8)


def silence(_connection: socket.socket, _closing: threading.Event) -> None:
    """Hangs up without a reply."""


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, place: tuple[str, int], serve: Callable[[socket.socket], None]) -> None:
        self._serve = serve
        super().__init__(place, socketserver.BaseRequestHandler)

    def finish_request(self, request: Any, _client_address: Any) -> None:
        self._serve(request)


def _read(connection: socket.socket) -> Received:
    with connection.makefile("rb") as stream:
        line = stream.readline().decode().rstrip()
        headers = {}
        while (text := stream.readline().decode().rstrip()) != "":
            name, _, value = text.partition(":")
            headers[name.lower()] = value.strip()
        return Received(line, headers, stream.read(int(headers.get("content-length", "0"))))
