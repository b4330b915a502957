"""Which deadlines call for haste now."""

from worker.policy.ranking import Ranking
from worker.policy.tracked import TrackedJob

MARGIN = 0.25
"""Of a job's remaining seconds: estimates are that wrong at times."""

MAX_CHANGES = 16
"""A decision looks at no more jobs than this, so that many equal deadlines don't stall one."""


class Deadlines:
    """A job with a deadline waits its turn like any other until it must start; then the earliest deadline leads.

    One that can no longer be met does not count: haste for it would make others late as well.
    """

    def __init__(self) -> None:
        self._calm = Ranking()
        self._urgent = Ranking()

    def add(self, tracked: TrackedJob) -> None:
        if tracked.job.deadline is not None:
            self._calm.add(tracked, (_start_by(tracked, tracked.job.deadline), tracked.sequence))

    def discard(self, tracked: TrackedJob) -> None:
        self._calm.discard(tracked)
        self._urgent.discard(tracked)

    def most_urgent(self, now: float) -> TrackedJob | None:
        self._wake(now)
        for _ in range(MAX_CHANGES):
            first = self._urgent.first()
            if first is None or _is_within_reach(first, now):
                return first
            self._urgent.discard(first)
        return None

    def _wake(self, now: float) -> None:
        for _ in range(MAX_CHANGES):
            first, key = self._calm.first(), self._calm.first_key()
            if first is None or key is None or key[0] > now:
                return
            self._calm.discard(first)
            deadline = first.job.deadline or 0.0
            if _start_by(first, deadline) > now:
                # Steps that it has made meanwhile bought it time.
                self._calm.add(first, (_start_by(first, deadline), first.sequence))
            elif _is_within_reach(first, now):
                self._urgent.add(first, (deadline, first.sequence))


def _start_by(tracked: TrackedJob, deadline: float) -> float:
    return deadline - (1 + MARGIN) * tracked.remaining_seconds


def _is_within_reach(tracked: TrackedJob, now: float) -> bool:
    return tracked.job.deadline is not None and now + tracked.remaining_seconds <= tracked.job.deadline
