"""Requests over a few connections that stay open, as fast as they are answered. Spends little on its own side."""

import socket
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

NUM_CONNECTIONS = 4
TIMEOUT_SECONDS = 30.0


def requests_per_second(port: int, requests: Sequence[bytes], *, statuses: Collection[int] = (200,)) -> float:
    """requests: whole HTTP/1.1 messages. Raises SystemExit for an answer of another status."""
    shares = [requests[first::NUM_CONNECTIONS] for first in range(NUM_CONNECTIONS)]
    with ThreadPoolExecutor(NUM_CONNECTIONS) as threads:
        started = time.perf_counter()
        list(threads.map(_send_all, repeat(port), shares, repeat(statuses)))
        return len(requests) / (time.perf_counter() - started)


def message(method: str, path: str, *, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
    """A request to this machine."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _send_all(port: int, requests: Sequence[bytes], statuses: Collection[int]) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for request in requests:
            connection.sendall(request)
            _read_answer(connection, statuses)


def _read_answer(connection: socket.socket, statuses: Collection[int]) -> None:
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += _receive(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    num_bytes = _content_length(head)
    while len(body) < num_bytes:
        body += _receive(connection)
    if int(head.split(b" ", 2)[1]) not in statuses:
        raise SystemExit(f"Not {statuses}: {(head + body)[:500]!r}")


def _receive(connection: socket.socket) -> bytes:
    received = connection.recv(65536)
    if not received:
        raise SystemExit("The server closed the connection.")
    return received


def _content_length(head: bytes) -> int:
    name = b"content-length: "
    [length] = [line[len(name) :] for line in head.lower().split(b"\r\n") if line.startswith(name)]
    return int(length)
