"""`wanserve up`: the embedded servers, a gateway and a worker, as one process tree."""

import signal
import sys
import time
from types import FrameType

import httpx

from service.api.guard import refuse_without_keys
from service.children import Child, stop_all
from service.embedded import EmbeddedServers
from service.errors import EmbeddedServerError
from service.listen import address_of, listen
from service.logs import get_logger
from service.settings import Settings

LOOK_SECONDS = 0.2
"""Between two looks at the children."""

log = get_logger(__name__)


def up(settings: Settings) -> int:
    """Run until SIGINT, SIGTERM or SIGHUP; the exit code. Raises StartupError."""
    # Told before anything starts; the gateway opens the port itself a moment later.
    listen(settings).close()
    stop = _StopSignal()
    _say(f"Starting. Data: {settings.data_dir}")
    with EmbeddedServers.start(settings) as servers:
        refuse_without_keys(servers.settings)
        children = _children(servers.settings)
        try:
            return _watch(servers, children, stop)
        finally:
            _say("Stopping.")
            stop_all(children)


class _StopSignal:
    """Set by a signal; looked at between two steps, so that nothing is cut in half."""

    def __init__(self) -> None:
        self.is_set = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.is_set = True


def _children(settings: Settings) -> list[Child]:
    environment = settings.child_environment()
    return [
        Child("gateway", [sys.executable, "-m", "service.api"], environment),
        Child("worker", [sys.executable, "-m", "worker"], environment),
    ]


def _watch(servers: EmbeddedServers, children: list[Child], stop: _StopSignal) -> int:
    announcement = _Announcement(servers.settings)
    while not stop.is_set:
        for child in children:
            if not child.keep_running():
                _say(f"The {child.name} can't run with these settings; its message is above.")
                return 1
        _revive(servers)
        announcement.tell_when_ready()
        time.sleep(LOOK_SECONDS)
    return 0


def _revive(servers: EmbeddedServers) -> None:
    try:
        for name in servers.revive():
            log.warning("server_restarted", server=name)
    except EmbeddedServerError as e:
        log.warning("server_not_restarted", error=e.message)


class _Announcement:
    """Says once that everything runs, and where."""

    def __init__(self, settings: Settings) -> None:
        self._address = address_of(settings)
        self._started = time.monotonic()
        self._ask_at = 0.0
        self._is_told = False

    def tell_when_ready(self) -> None:
        if self._is_told or time.monotonic() < self._ask_at:
            return
        self._ask_at = time.monotonic() + 1
        if not _is_healthy(self._address):
            return
        self._is_told = True
        seconds = time.monotonic() - self._started
        _say(f"Ready after {seconds:.1f} s. Page: {self._address}  API: {self._address}/v1  Stop: Ctrl-C")


def _is_healthy(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health", timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _say(text: str) -> None:
    sys.stdout.write(f"wanserve: {text}\n")
    sys.stdout.flush()
