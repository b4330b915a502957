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
        listener = socket.socket(family, socket.SOCK_STREAM)
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
