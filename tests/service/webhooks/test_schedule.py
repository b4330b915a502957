"""When attempts are made, by a clock that runs as fast as it likes."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from itertools import pairwise

import pytest

from service.webhooks.schedule import DELAYS_SECONDS, MAX_AGE_SECONDS, next_delay, parse_retry_after

HOUR = 3600.0


@dataclass
class FakeClock:
    now: float = 0.0

    def attempts(self, *, random: Callable[[], float], retry_after_seconds: float | None = None) -> list[float]:
        """The times of all attempts at a receiver that always fails."""
        times = [self.now]
        while True:
            delay = next_delay(len(times), retry_after_seconds=retry_after_seconds, random=random)
            if delay is None:
                return times
            self.now += delay
            times.append(self.now)


def test_ten_attempts_are_made_over_three_days() -> None:
    times = FakeClock().attempts(random=lambda: 0.5)

    waits = [later - earlier for earlier, later in pairwise(times)]
    assert waits == [5, 300, 1800, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR]
    assert times[0] == 0
    assert len(times) == 10


@pytest.mark.parametrize("drawn", [0.0, 0.25, 0.999])
def test_jitter_moves_a_wait_by_a_tenth_at_most_and_never_beyond_the_age_at_which_all_is_given_up(drawn: float) -> None:
    times = FakeClock().attempts(random=lambda: drawn)

    waits = [later - earlier for earlier, later in pairwise(times)]
    assert waits == pytest.approx([delay * (0.9 + 0.2 * drawn) for delay in DELAYS_SECONDS])
    assert times[-1] < MAX_AGE_SECONDS


def test_retry_after_makes_a_wait_longer_and_never_shorter() -> None:
    assert next_delay(1, retry_after_seconds=60, random=lambda: 0.5) == 60
    assert next_delay(2, retry_after_seconds=60, random=lambda: 0.5) == 300


def test_a_receiver_cannot_put_an_attempt_off_for_more_than_a_day() -> None:
    assert next_delay(1, retry_after_seconds=1e12, random=lambda: 0.5) == 24 * HOUR
    assert len(FakeClock().attempts(random=lambda: 0.5, retry_after_seconds=1e12)) == 10


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("", None),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("-1", None),
        ("1.5", None),
        ("9" * 400, float("inf")),
        ("soon", None),
        (format_datetime(datetime.fromtimestamp(1_795_000_090, UTC), usegmt=True), 90.0),
        (format_datetime(datetime.fromtimestamp(1_794_000_000, UTC), usegmt=True), 0.0),
        ("Wed, 99 Foo 9999 99:99:99 GMT", None),
    ],
)
def test_retry_after_is_read_in_both_forms(text: str | None, seconds: float | None) -> None:
    assert parse_retry_after(text, now=1_795_000_000.0) == seconds
