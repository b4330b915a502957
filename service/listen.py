"""The gateway's listening socket."""

import errno
import socket

from service.errors import StartupError
from service.settings import Settings

BACKLOG = 2048


def listen(settings: Settings) -> socket.socket:
    """A socket that listens on settings.host and port; the caller closes it. Raises StartupError."""
    host, port = settings.host, settings.port
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # With the protocol named, asyncio turns Nagle off: else the second write of an answer waits 40 ms for an ACK.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as e:
        raise StartupError(f"{host} is no address of this machine: set another WANSERVE_HOST.") from e
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as e:
        listener.close()
        raise StartupError(_reason(e, host, port)) from e
    return listener


def address_of(settings: Settings) -> str:
    """Where this machine reaches the gateway."""
    # 0.0.0.0 and :: mean every address, and are none themselves.
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    host = f"[{name}]" if ":" in name else name
    return f"http://{host}:{settings.port}"


def _reason(error: OSError, host: str, port: int) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"Port {port} on {host} is taken by another program: stop it, or choose another port, "
                f"for example WANSERVE_PORT={port + 1}."
            )
        case errno.EACCES:
            return f"Port {port} needs more rights: choose one above 1023 with WANSERVE_PORT."
        case _:
            return f"Can't listen on {host}:{port} ({error.strerror}): set WANSERVE_HOST or WANSERVE_PORT."
