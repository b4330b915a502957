"""The admitted jobs: on the device, or parked in host memory."""

from collections.abc import Iterator

from worker.policy.limits import Limits
from worker.policy.tracked import TrackedJob


class Flight:
    """Knows the room that is left for jobs and for bytes, and how to make some."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._jobs: list[TrackedJob] = []

    def __len__(self) -> int:
        return len(self._jobs)

    def runnable(self) -> Iterator[TrackedJob]:
        """Those with steps left, in the order of admission."""
        return (tracked for tracked in self._jobs if not tracked.is_denoised)

    @property
    def resident_bytes(self) -> int:
        return sum(tracked.job.resident_bytes for tracked in self._residents())

    @property
    def parked_bytes(self) -> int:
        return sum(tracked.job.parked_bytes for tracked in self._jobs if tracked.place == "parked")

    def bring(self, tracked: TrackedJob) -> None:
        """Onto the device, from wherever it is."""
        if tracked.place == "waiting":
            self._jobs.append(tracked)
        tracked.place = "resident"

    def park(self, tracked: TrackedJob) -> None:
        tracked.place = "parked"

    def discard(self, tracked: TrackedJob) -> None:
        self._jobs = [other for other in self._jobs if other is not tracked]

    def has_room_beside(self, tracked: TrackedJob) -> bool:
        """Whether it can be or come onto the device with nobody making room.

        A job that waits must leave a place free, for one that could preempt it.
        """
        if tracked.place == "resident":
            return True
        has_place = tracked.place == "parked" or len(self._jobs) + 1 < self._limits.max_jobs_in_flight
        return has_place and self.resident_bytes + tracked.job.resident_bytes <= self._limits.resident_bytes

    def can_host(self, tracked: TrackedJob) -> bool:
        return self.victims_of(tracked) is not None

    def victims_of(self, tracked: TrackedJob) -> list[TrackedJob] | None:
        """Whom to park so that it can be on the device, worst ranked first; None where that is not possible.

        They are parked before it comes, so that a parked job's own bytes count until then.
        """
        if tracked.place == "resident":
            return []
        if tracked.place == "waiting" and len(self._jobs) >= self._limits.max_jobs_in_flight:
            return None
        excess = self.resident_bytes + tracked.job.resident_bytes - self._limits.resident_bytes
        parking_left = self._limits.parked_bytes - self.parked_bytes
        residents, victims = list(self._residents()), []
        for other in sorted(_with_steps(residents), key=lambda other: other.rank, reverse=True):
            if excess <= 0:
                break
            if other.job.parked_bytes <= parking_left:
                victims.append(other)
                excess -= other.job.resident_bytes
                parking_left -= other.job.parked_bytes
        is_alone = len(victims) == len(residents)
        return victims if excess <= 0 or is_alone else None

    def _residents(self) -> Iterator[TrackedJob]:
        return (tracked for tracked in self._jobs if tracked.place == "resident")


def _with_steps(jobs: list[TrackedJob]) -> list[TrackedJob]:
    """A denoised job is being decoded and stays where it is."""
    return [tracked for tracked in jobs if not tracked.is_denoised]
