"""How much a device can hold and do at once."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """A job that breaks a limit by itself still runs, alone. Raises ValueError for limits that admit nothing."""

    token_budget: int
    """Rows x tokens of a forward up to which one more row costs hardly any time.

    Not what fits: above it a shared forward only makes those who share it wait for each other.
    """

    max_jobs_in_flight: int
    """Admitted and not yet removed, parked ones included. Who only shares a forward leaves one place free for a
    job that preempts."""

    resident_bytes: int
    """Of job states on the device."""

    parked_bytes: int
    """Of job states in host memory; 0 forbids parking."""

    swap_seconds: float
    """To bring the other expert onto the device; 0 where both are there or the hand-over is hidden."""

    def __post_init__(self) -> None:
        if self.token_budget < 1 or self.max_jobs_in_flight < 1:
            raise ValueError("token_budget and max_jobs_in_flight must be at least 1.")
        if self.resident_bytes < 0 or self.parked_bytes < 0 or not self.swap_seconds >= 0:
            raise ValueError("resident_bytes, parked_bytes and swap_seconds must be at least 0.")
