"""SIGTERM and SIGINT as a question that the loop asks: the handler itself only notes the time."""

import math
import signal
import time
from collections.abc import Callable
from types import FrameType

GRACE_SECONDS = 8.0
"""Kubernetes may be told to wait longer; `wanserve up` kills after ten."""

LAST_RESORT_SECONDS = 1.5
"""After the grace time the kernel ends the process, even where a driver call never returns."""


class Shutdown:
    """Whether this process was asked to stop, and how long it may still take."""

    def __init__(self, *, grace_seconds: float = GRACE_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._grace_seconds = grace_seconds
        self._clock = clock
        self._requested_at: float | None = None

    def install(self) -> None:
        """Take over both signals; call it from the main thread."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    def request(self) -> None:
        """Asking again changes nothing: the first request starts the grace time."""
        if self._requested_at is None:
            self._requested_at = self._clock()

    @property
    def is_requested(self) -> bool:
        return self._requested_at is not None

    @property
    def seconds_left(self) -> float:
        """Of the grace time; infinite while nobody asked."""
        if self._requested_at is None:
            return math.inf
        return self._requested_at + self._grace_seconds - self._clock()

    def sleep(self, seconds: float) -> None:
        """Wait, but not beyond a request to stop."""
        end = self._clock() + seconds
        # Short naps: an Event can deadlock when its own waiter is interrupted by the handler that sets it.
        while not self.is_requested and (left := end - self._clock()) > 0:
            time.sleep(min(0.1, left))

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.request()
        # SIGALRM keeps its default: it ends the process.
        signal.setitimer(signal.ITIMER_REAL, self._grace_seconds + LAST_RESORT_SECONDS)
