"""When to start something again that ends by itself: later each time, until it has run for a while."""

import time
from collections.abc import Callable

MAX_DELAY_SECONDS = 30.0
SETTLED_SECONDS = 60.0
"""What ran so long is started again after the first delay."""


class Backoff:
    """Delays of first_seconds, one second, two, four and so on up to half a minute."""

    def __init__(self, *, first_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._first_seconds = first_seconds
        self._clock = clock
        self._delay_seconds = first_seconds
        self._started_at = clock()
        self._due_at = 0.0

    @property
    def is_due(self) -> bool:
        return self._clock() >= self._due_at

    @property
    def ran_seconds(self) -> float:
        """Since started()."""
        return self._clock() - self._started_at

    def started(self) -> None:
        self._started_at = self._clock()

    def ended(self) -> float:
        """It ended, or could not start. Seconds until it is due."""
        if self.ran_seconds >= SETTLED_SECONDS:
            self._delay_seconds = self._first_seconds
        delay = self._delay_seconds
        self._due_at = self._clock() + delay
        self._delay_seconds = min(max(delay * 2, 1.0), MAX_DELAY_SECONDS)
        return delay
