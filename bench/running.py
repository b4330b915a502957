"""A whole service for a bench: started, waited for, ended with it."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx

from service.settings import Settings

START_SECONDS = 120.0


@contextlib.contextmanager
def running(settings: Settings) -> Iterator[None]:
    command = [Path(sys.executable).with_name("wanserve"), "up"]
    environment = settings.child_environment()
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def address(settings: Settings) -> str:
    return f"http://{settings.host}:{settings.port}"


def is_healthy(client: httpx.Client) -> bool:
    """Whether a request would be served now."""
    try:
        return client.get("/health").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def wait_until(condition: Callable[[], bool], *, seconds: float = START_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"The service was not ready within {seconds:g} s.")
        time.sleep(0.1)
