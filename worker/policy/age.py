"""Why nothing starves: a share of the device belongs to whoever has been there longest."""

from collections.abc import Collection

from worker.policy.ranking import Ranking
from worker.policy.tracked import TrackedJob

OLDEST_SHARE = 0.2
"""Of all seconds of steps."""


class OldestShare:
    """Counts what the oldest job with steps left has been denied of its share.

    The bound: a job that comes when it and the older ones need W more seconds of steps is denoised within
    (W + (1 + OLDEST_SHARE) c) / OLDEST_SHARE seconds of steps, c being the longest step, however much comes later.
    That is about five times first come, first served. An oldest job that finds all places taken adds the time
    until one of those in flight ends: nobody else is admitted meanwhile.
    """

    def __init__(self) -> None:
        self._by_age = Ranking()
        self._owed_seconds = 0.0

    def add(self, tracked: TrackedJob) -> None:
        self._by_age.add(tracked, (tracked.job.arrived_at, tracked.sequence))

    def discard(self, tracked: TrackedJob) -> None:
        self._by_age.discard(tracked)

    def charge(self, group: Collection[TrackedJob], seconds: float) -> None:
        """To be called before a step is counted, so that the last one of the oldest job is its own."""
        got = seconds if self._by_age.first() in group else 0.0
        # What it got beyond its share is no reason to deny it anything later.
        self._owed_seconds = max(0.0, self._owed_seconds + OLDEST_SHARE * seconds - got)

    def creditor(self) -> TrackedJob | None:
        """The oldest job, once it is owed a whole step."""
        oldest = self._by_age.first()
        if oldest is None or self._owed_seconds < oldest.phase.step_seconds or self._owed_seconds == 0:
            return None
        return oldest
