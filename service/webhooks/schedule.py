"""When an attempt is made again, and when a delivery is given up. Pure: no clock of its own."""

from collections.abc import Callable
from email.utils import parsedate_to_datetime

MINUTE, HOUR = 60.0, 3600.0
DELAYS_SECONDS = (5.0, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR)
"""After the first attempt, which is made at once: ten attempts over three days."""

JITTER = 0.1
"""Of a delay, up or down, so that what failed together does not come back together."""

MAX_RETRY_AFTER_SECONDS = 24 * HOUR
MAX_AGE_SECONDS = 4 * 24 * HOUR
"""A delivery that a broken receiver's breaker has held back for so long is given up."""


def next_delay(num_attempts: int, *, retry_after_seconds: float | None, random: Callable[[], float]) -> float | None:
    """Seconds until the next attempt, after so many that failed; None when that was the last.

    A receiver's Retry-After makes it later, never earlier. random: uniform in [0, 1).
    """
    if num_attempts > len(DELAYS_SECONDS):
        return None
    delay = DELAYS_SECONDS[num_attempts - 1] * (1 + JITTER * (2 * random() - 1))
    return max(delay, min(retry_after_seconds or 0.0, MAX_RETRY_AFTER_SECONDS))


def parse_retry_after(text: str | None, *, now: float) -> float | None:
    """Seconds, from either form of RFC 9110; None where there is none that can be read."""
    if text is None:
        return None
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None
