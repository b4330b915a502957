"""Notices a thread that no longer moves: a hung device call looks like a slow step from outside."""

from collections.abc import Iterable

from service.jobs.record import State
from worker.held import HeldJob

Moves = tuple[tuple[HeldJob, int], ...]


class StallWatch:
    """Counts its own looks, not the clock: a process that was paused for a while is not stalled.

    The engine's thread works on many jobs in turns, so that one that moves stands for all of them. A job that is
    being finished has a thread of its own, and moves for nobody else.
    """

    def __init__(self, *, limit_seconds: float) -> None:
        self._limit_seconds = limit_seconds
        self._still_seconds: dict[Moves, float] = {}

    def look(self, jobs: Iterable[HeldJob], *, seconds: float) -> None:
        """seconds: what the last look was long ago, by the looker's own pace."""
        before = self._still_seconds
        self._still_seconds = {
            moves: before[moves] + seconds if moves in before else 0.0 for moves in _moves_by_thread(jobs)
        }

    @property
    def still_seconds(self) -> float:
        """Since the last move of whoever has moved least lately."""
        return max(self._still_seconds.values(), default=0.0)

    @property
    def is_stalled(self) -> bool:
        return self.still_seconds >= self._limit_seconds


def _moves_by_thread(jobs: Iterable[HeldJob]) -> list[Moves]:
    in_engine: list[tuple[HeldJob, int]] = []
    finishing: list[tuple[HeldJob, int]] = []
    for held in jobs:
        (finishing if held.progress.state is State.FINISHING else in_engine).append((held, held.num_moves))
    return [tuple(in_engine)] * bool(in_engine) + [(each,) for each in finishing]
