"""The order of service/jobs/scripts in plain Python, for fleets too large to ask a server.

tests/bench/test_fleet_queue.py holds it to the real scripts. One checkpoint; nothing is paused, drained or cancelled.
"""

import heapq
import math
from collections.abc import Collection
from dataclasses import dataclass, field

from worker.policy.job import Priority

SHARES: dict[Priority, float] = {"interactive": 16.0, "standard": 4.0, "bulk": 1.0}
"""In the order in which equals go."""

FRONT = 4
LOOK = 4
MAX_PASSED = 4
PREEMPTION_COST = 4.0
"""A job that preempts takes a quarter longer than on a free GPU."""


@dataclass(slots=True)
class Waiter:
    """A job, as the queue's scripts see it."""

    id: str
    priority: Priority
    tenant: str
    cost: float
    """GPU seconds."""

    shape: str
    num_passed: int = 0


@dataclass(slots=True)
class _Lane:
    front: list[Waiter] = field(default_factory=list)
    backlog: list[tuple[float, str, Waiter]] = field(default_factory=list)
    virtual: float = 0.0
    tags: dict[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.front) + len(self.backlog)

    def add(self, waiter: Waiter, *, weight: float) -> None:
        tag = max(self.virtual, self.tags.get(waiter.tenant, 0.0))
        self.tags[waiter.tenant] = stamp(tag + waiter.cost / weight)
        heapq.heappush(self.backlog, (stamp(tag), waiter.id, waiter))
        self.pump()

    def pump(self) -> None:
        while self.backlog and len(self.front) < FRONT:
            self.virtual, _, waiter = heapq.heappop(self.backlog)
            self.front.append(waiter)

    def take(self, shapes: Collection[str], *, longest_cost: float) -> Waiter | None:
        """A lane that runs empty forgets who had how much."""
        waiter = self._choose(shapes, [each for each in self.front[:LOOK] if each.cost <= longest_cost])
        if waiter is None:
            return None
        self.front.remove(waiter)
        self.pump()
        if not len(self):
            self.virtual = 0.0
            self.tags.clear()
        return waiter

    def _choose(self, shapes: Collection[str], few: list[Waiter]) -> Waiter | None:
        if not few or not shapes or few[0].num_passed >= MAX_PASSED:
            return few[0] if few else None
        welcome = next((waiter for waiter in few if waiter.shape in shapes), few[0])
        if welcome is not few[0]:
            few[0].num_passed += 1
        return welcome


class MirroredQueue:
    """submit.lua, claim.lua and what release.lua and reclaim.lua do to the order."""

    def __init__(self) -> None:
        self._lanes: dict[Priority, _Lane] = {priority: _Lane() for priority in SHARES}
        self._virtual = 0.0
        self._starts: dict[Priority, float] = {}
        self._num_running = 0

    @property
    def least_cost(self) -> float:
        """Of the jobs that a claim looks at; inf where none waits."""
        return min((waiter.cost for lane in self._lanes.values() for waiter in lane.front[:LOOK]), default=math.inf)

    def __len__(self) -> int:
        return sum(len(lane) for lane in self._lanes.values())

    def submit(self, waiter: Waiter, *, weight: float = 1.0) -> None:
        self._lanes[waiter.priority].add(waiter, weight=weight)

    def put_back(self, waiter: Waiter) -> None:
        """A job that was started goes before all others of its lane."""
        self._num_running -= 1
        self._lanes[waiter.priority].front.insert(0, waiter)

    def end(self) -> None:
        """Of a job that runs."""
        self._num_running -= 1

    def longest_cost(self, busy_seconds: float) -> float:
        """Of a job that a worker may take whose jobs take so long; a longer one waits for one that comes free."""
        return math.inf if busy_seconds == 0 else PREEMPTION_COST * busy_seconds / max(1, self._num_running)

    def claim(self, shapes: Collection[str] = (), *, busy_seconds: float = 0.0) -> Waiter | None:
        turns = sorted(
            (max(self._virtual, self._starts.get(priority, 0.0)), rank, priority)
            for rank, priority in enumerate(SHARES)
            if len(self._lanes[priority])
        )
        longest_cost = self.longest_cost(busy_seconds)
        for start, _, priority in turns:
            waiter = self._lanes[priority].take(shapes, longest_cost=longest_cost)
            if waiter is not None:
                self._num_running += 1
                self._virtual = stamp(start)
                self._starts[priority] = stamp(start + waiter.cost / SHARES[priority])
                return waiter
        if not turns:
            self._virtual = 0.0
            self._starts.clear()
        return None


def stamp(seconds: float) -> float:
    """As the scripts write it."""
    return float(f"{seconds:.6f}")
