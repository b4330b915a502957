"""Jobs in the order of a key."""

from bisect import bisect_left
from collections.abc import Iterator
from operator import itemgetter

from worker.policy.tracked import TrackedJob

SortKey = tuple[float, ...]


class Ranking:
    """Jobs by a key that stays the same while they are in; keys must differ.

    A sorted list: at ten thousand jobs, moving its tail costs less than a heap that must also forget jobs from
    its middle, and the order can be read.
    """

    def __init__(self) -> None:
        self._entries: list[tuple[SortKey, TrackedJob]] = []
        self._keys: dict[TrackedJob, SortKey] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[TrackedJob]:
        """First to last; the ranking must not change meanwhile."""
        return (tracked for _, tracked in self._entries)

    def add(self, tracked: TrackedJob, key: SortKey) -> None:
        self._entries.insert(self._position(key), (key, tracked))
        self._keys[tracked] = key

    def discard(self, tracked: TrackedJob) -> None:
        """Nothing happens where it is not in."""
        key = self._keys.pop(tracked, None)
        if key is not None:
            del self._entries[self._position(key)]

    def first(self) -> TrackedJob | None:
        return self._entries[0][1] if self._entries else None

    def first_key(self) -> SortKey | None:
        return self._entries[0][0] if self._entries else None

    def _position(self, key: SortKey) -> int:
        return bisect_left(self._entries, key, key=itemgetter(0))
