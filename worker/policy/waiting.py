"""The jobs that wait: any number of them, the best of each kind at hand."""

import itertools
from collections import defaultdict
from typing import TYPE_CHECKING

from worker.policy.ranking import Ranking
from worker.policy.tracked import GroupKey, TrackedJob

if TYPE_CHECKING:
    from model.experts import ExpertName


class Waiting:
    """Ranked per expert and per group. A waiting job makes no steps, so that its rank holds."""

    def __init__(self) -> None:
        self._by_expert: defaultdict[ExpertName, Ranking] = defaultdict(Ranking)
        self._by_group: defaultdict[GroupKey, Ranking] = defaultdict(Ranking)

    def add(self, tracked: TrackedJob) -> None:
        rank, group = tracked.rank, tracked.group
        self._by_expert[group.expert].add(tracked, rank)
        self._by_group[group].add(tracked, rank)

    def discard(self, tracked: TrackedJob) -> None:
        group = tracked.group
        self._by_expert[group.expert].discard(tracked)
        self._by_group[group].discard(tracked)
        if not self._by_group[group]:
            # Sizes come and go; their empty lists must not stay.
            del self._by_group[group]

    def firsts(self) -> list[TrackedJob]:
        """The best one for each expert."""
        return [first for ranking in self._by_expert.values() if (first := ranking.first()) is not None]

    def first_of_group(self, group: GroupKey, count: int) -> list[TrackedJob]:
        return list(itertools.islice(self._by_group.get(group, ()), count))
