"""Notices an engine that no longer moves: a hung device call looks like a slow step from outside."""

from worker.held import HeldJob


class StallWatch:
    """Counts its own looks, not the clock: a process that was paused for a while is not stalled."""

    def __init__(self, *, limit_seconds: float) -> None:
        self._limit_seconds = limit_seconds
        self._seen: tuple[HeldJob | None, int] = (None, 0)
        self.still_seconds = 0.0
        """Since the last move."""

    def look(self, held: HeldJob | None, *, seconds: float) -> None:
        """seconds: what the last look was long ago, by the looker's own pace."""
        seen = (held, 0 if held is None else held.num_moves)
        self.still_seconds = self.still_seconds + seconds if held is not None and seen == self._seen else 0.0
        self._seen = seen

    @property
    def is_stalled(self) -> bool:
        return self.still_seconds >= self._limit_seconds
