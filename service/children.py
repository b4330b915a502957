"""Child processes that are kept running: started again, later each time, when they end by themselves."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from service.backoff import Backoff
from service.logs import get_logger

FIRST_DELAY_SECONDS = 1.0
STOP_SECONDS = 15.0
"""More than a worker takes to hand its jobs back."""

EXIT_USAGE = 2
"""What a child says when its settings can't work: starting it again would change nothing."""

_PR_SET_PDEATHSIG = 1

log = get_logger(__name__)


class Child:
    """One command that should always run. Used from one thread: the child dies with the thread that started it."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: dict[str, str],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._command = list(command)
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._backoff = Backoff(first_seconds=FIRST_DELAY_SECONDS, clock=clock)

    @property
    def pid(self) -> int | None:
        """None while it waits to be started again."""
        return None if self._process is None else self._process.pid

    def keep_running(self) -> bool:
        """Start it when it is due. False: it ended because its settings can't work; it said why."""
        if self._process is None:
            if self._backoff.is_due:
                self._start()
            return True
        code = self._process.poll()
        if code is None:
            return True
        self._process = None
        if code == EXIT_USAGE:
            return False
        self._plan_restart(code)
        return True

    def ask_to_stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def wait_stopped(self, *, seconds: float) -> None:
        """Kill it when it has not ended by then."""
        if self._process is None:
            return
        try:
            self._process.wait(timeout=max(seconds, 0))
        except subprocess.TimeoutExpired:
            log.warning("child_killed", child=self.name, pid=self._process.pid)
            self._process.kill()
            self._process.wait()
        self._process = None

    def _start(self) -> None:
        self._backoff.started()
        self._process = subprocess.Popen(
            self._command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            # Ctrl-C reaches only us; we stop the children, in order.
            start_new_session=True,
            # Safe here: this process has one thread.
            preexec_fn=die_with(os.getpid()),  # noqa: PLW1509
        )
        log.info("child_started", child=self.name, pid=self._process.pid)

    def _plan_restart(self, code: int) -> None:
        log.warning(
            "child_ended",
            child=self.name,
            exit_code=code,
            ran_seconds=round(self._backoff.ran_seconds, 1),
            starts_again_in_seconds=self._backoff.ended(),
        )


def stop_all(children: Sequence[Child]) -> None:
    """Ask all at once, then wait for each."""
    deadline = time.monotonic() + STOP_SECONDS
    for child in children:
        child.ask_to_stop()
    for child in children:
        child.wait_stopped(seconds=deadline - time.monotonic())


def die_with(parent: int) -> Callable[[], None] | None:
    """A preexec_fn: Linux ends the child when its parent is killed; elsewhere it stays, as an orphan."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)

    def ask_kernel() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return ask_kernel
