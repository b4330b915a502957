"""One POST to a receiver that may be hostile. It can't be led to an address that the rules do not permit.

The name is resolved once; if any of its addresses is not permitted nothing is connected to, else the connection goes
to one of those addresses and nowhere else. No redirects, no proxies, no more read than was asked for, one deadline for
all of it.
"""

import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import IO, Any

import httpcore
import httpx

from service.errors import InvalidRequest, ReceiverUnreachable
from service.webhooks.address import Address
from service.webhooks.receiver import Receiver, ReceiverRules

CONNECT_SECONDS = 5.0
"""For each address of a name."""

MAX_ADDRESSES = 4
REASON_CHARACTERS = 200

Resolve = Callable[[str, int], Sequence[str]]
Clock = Callable[[], float]
SocketOptions = Iterable[Any] | None


@dataclass(frozen=True, slots=True)
class Reply:
    """All that is taken from a receiver's answer."""

    status: int
    retry_after: str | None


def resolve_host(host: str, port: int) -> tuple[str, ...]:
    """Its addresses in the system's order. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(place[0]) for *_, place in found))


class Outbound:
    """Keeps no connection between calls."""

    def __init__(
        self,
        rules: ReceiverRules,
        *,
        timeout_seconds: float,
        resolve: Resolve = resolve_host,
        tls: ssl.SSLContext | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._rules = rules
        self._timeout_seconds = timeout_seconds
        self._resolve = resolve
        self._tls = tls or httpx.create_ssl_context()
        self._clock = clock

    def post(self, url: str, *, headers: Mapping[str, str], body: bytes) -> Reply:
        """Raises ReceiverUnreachable when there is no reply in time, or the address is not permitted."""
        try:
            receiver = self._rules.receiver(url, param="url")
        except InvalidRequest as e:
            # The rules are stricter now than when the URL was accepted.
            raise ReceiverUnreachable(e.message) from e
        try:
            return self._exchange(receiver, headers, body)
        except httpcore.TimeoutException as e:
            raise ReceiverUnreachable(f"No reply within {self._timeout_seconds:g} s.") from e
        except (httpcore.NetworkError, httpcore.ProtocolError) as e:
            raise ReceiverUnreachable(f"No valid reply: {_reason(e)}.") from e

    def fetch(self, url: str, into: IO[bytes], *, limit: int) -> int:
        """GET a file of at most limit bytes; how many it has.

        Raises InvalidRequest for an address that is not permitted, an answer that is no file and one that is too
        large, and ReceiverUnreachable when it does not come whole in time.
        """
        receiver = self._rules.receiver(url, param="url")
        try:
            return self._fetched(receiver, into, limit)
        except httpcore.TimeoutException as e:
            raise ReceiverUnreachable(f"The file did not come within {self._timeout_seconds:g} s.") from e
        except (httpcore.NetworkError, httpcore.ProtocolError) as e:
            raise ReceiverUnreachable(f"The file did not come whole: {_reason(e)}.") from e

    def _fetched(self, receiver: Receiver, into: IO[bytes], limit: int) -> int:
        headers = {"Host": receiver.authority, "Connection": "close", "Accept": "*/*", "Accept-Encoding": "identity"}
        num_bytes = 0
        with (
            self._pool(receiver) as pool,
            pool.stream("GET", _httpcore_url(receiver), headers=_pairs(headers)) as reply,
        ):
            if reply.status != 200:
                raise InvalidRequest(
                    f"url: the server answered {reply.status}. Give the file's own address: no redirect is followed.",
                    param="url",
                )
            for chunk in reply.iter_stream():
                num_bytes += len(chunk)
                if num_bytes > limit:
                    raise InvalidRequest(f"url: the file has more than {limit >> 20} MiB.", param="url")
                into.write(chunk)
        return num_bytes

    def _pool(self, receiver: Receiver) -> httpcore.ConnectionPool:
        deadline = _Deadline(self._timeout_seconds, self._clock)
        backend = _PinnedBackend(receiver, self._rules, self._resolve, deadline)
        return httpcore.ConnectionPool(
            ssl_context=self._tls, network_backend=backend, max_connections=1, max_keepalive_connections=0
        )

    def _exchange(self, receiver: Receiver, headers: Mapping[str, str], body: bytes) -> Reply:
        sent = {"Host": receiver.authority, "Connection": "close", "Content-Length": str(len(body)), **headers}
        with (
            self._pool(receiver) as pool,
            pool.stream("POST", _httpcore_url(receiver), headers=_pairs(sent), content=body) as response,
        ):
            found = {name.lower(): text for name, text in response.headers}
            retry_after = found.get(b"retry-after")
            return Reply(response.status, None if retry_after is None else retry_after.decode("latin-1"))


class _Deadline:
    def __init__(self, seconds: float, clock: Clock) -> None:
        self._clock = clock
        self._ends_at = clock() + seconds

    def left(self, *, at_most: float = float("inf")) -> float:
        """Seconds until it. Raises httpcore.ReadTimeout when it has passed."""
        left = self._ends_at - self._clock()
        if left <= 0:
            raise httpcore.ReadTimeout
        return min(left, at_most)


class _PinnedBackend(httpcore.NetworkBackend):
    """Connects to what the rules permit, whatever httpcore asks for."""

    def __init__(self, receiver: Receiver, rules: ReceiverRules, resolve: Resolve, deadline: _Deadline) -> None:
        self._receiver = receiver
        self._rules = rules
        self._resolve = resolve
        self._deadline = deadline
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: SocketOptions = None,
    ) -> httpcore.NetworkStream:
        failure: httpcore.ConnectError | httpcore.ConnectTimeout | None = None
        for address in self._addresses()[:MAX_ADDRESSES]:
            seconds = self._deadline.left(at_most=CONNECT_SECONDS)
            try:
                stream = self._sockets.connect_tcp(str(address), self._receiver.port, timeout=seconds)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as e:
                failure = e
            else:
                return _TimedStream(stream, self._deadline)
        raise failure or httpcore.ConnectError("the host has no address")

    def _addresses(self) -> Sequence[Address]:
        """Raises ReceiverUnreachable unless every one of them is permitted: which is used must not be chance."""
        host = self._receiver.host
        if not isinstance(host, str):
            return (host,)
        try:
            found = self._resolve(host, self._receiver.port)
        except OSError as e:
            raise ReceiverUnreachable("The host's name can't be resolved.") from e
        # A zone (%eth0) marks an address that is not public anyway.
        addresses = [ip_address(text.partition("%")[0]) for text in found]
        if not all(map(self._rules.permits, addresses)):
            raise ReceiverUnreachable("The host's name leads to an address that is not public.")
        return addresses


class _TimedStream(httpcore.NetworkStream):
    """Every read and write ends at the deadline, so that a slow drip can't go on for ever."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, timeout=self._deadline.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, timeout=self._deadline.left())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        seconds = self._deadline.left()
        return _TimedStream(self._stream.start_tls(ssl_context, server_hostname, seconds), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _httpcore_url(receiver: Receiver) -> httpcore.URL:
    return httpcore.URL(
        scheme=receiver.scheme.encode(),
        host=str(receiver.host).encode(),
        port=receiver.port,
        target=receiver.target.encode(),
    )


def _pairs(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    return list(headers.items())


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__)[:REASON_CHARACTERS].rstrip(". ")
