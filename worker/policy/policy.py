"""The policy: which jobs a device works on next. Pure and deterministic: no torch, no Redis, no clock of its own.

Who leads the next step, the first of these that can:

1. The oldest job, once it is owed a whole step of its fifth of the device (age.py): nothing starves.
2. The job with the earliest deadline, among those that must start now to meet theirs (deadlines.py).
3. The job with the least remaining seconds per weight of its priority (tracked.py): a short one preempts a long
   one at the next step; equal ones run one after another. Taking turns would finish the first of them as late as
   the last, and none sooner.

In place of 3 leads, for a while, a job that can finish its phase on the expert whose turn it is: so several phases
share a swap, and those that catch up share the forwards that follow. Others of the leader's shape and expert share
its forward within the token budget.
"""

import dataclasses
import statistics
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, NamedTuple

from worker.policy.age import OldestShare
from worker.policy.deadlines import Deadlines
from worker.policy.decision import Decision, Group
from worker.policy.flight import Flight
from worker.policy.job import Job, Priority
from worker.policy.limits import Limits
from worker.policy.tracked import Place, TrackedJob
from worker.policy.waiting import Waiting

if TYPE_CHECKING:
    from model.experts import ExpertName

DETOUR = 8.0
"""Between two swaps, others' phases may hold up a leader that wants the other expert for so many times a swap.

Longer where that earns it company.
"""


class _Leader(NamedTuple):
    job: TrackedJob
    reason: Literal["owed", "urgent", "best", "detour"]


class Policy:
    """Tell it what happens; ask decide() before every step, and do what it says.

    All methods raise ValueError for a job that is not here, or is here already.
    """

    def __init__(self, limits: Limits, *, resident_expert: "ExpertName | None" = None) -> None:
        self._limits = limits
        self._resident_expert = resident_expert
        self._jobs: dict[str, TrackedJob] = {}
        self._waiting = Waiting()
        self._flight = Flight(limits)
        self._age = OldestShare()
        self._deadlines = Deadlines()
        self._num_added = 0
        self._is_detour = False
        self._detour_seconds = 0.0
        self._num_passed_over = 0

    @property
    def num_in_flight(self) -> int:
        return len(self._flight)

    @property
    def num_waiting(self) -> int:
        return len(self._jobs) - len(self._flight)

    @property
    def has_room(self) -> bool:
        """Whether to bring one more job: to share forwards within the token budget, or to preempt them.

        What this device would only let wait is left to others.
        """
        if len(self._jobs) >= self._limits.max_jobs_in_flight or min(self._num_passed_over, self.num_waiting):
            return False
        return self.num_waiting == 0 or self._step_tokens < self._limits.token_budget

    @property
    def busy_seconds(self) -> float:
        """What a job here takes on average, from its first step to its end; 0 where one more would share forwards."""
        jobs = [tracked.job for tracked in self._jobs.values()]
        if not jobs or self._step_tokens < self._limits.token_budget:
            return 0.0
        return statistics.fmean(job.seconds for job in jobs)

    @property
    def _step_tokens(self) -> int:
        """Of one step of all."""
        return sum(tracked.step_tokens for tracked in self._jobs.values() if not tracked.is_denoised)

    @property
    def resident_expert(self) -> "ExpertName | None":
        """Of the last step decided on; None before the first."""
        return self._resident_expert

    def add(self, job: Job) -> None:
        if job.id in self._jobs:
            raise ValueError(f"{job.id} is here already: update() or remove() it.")
        tracked = TrackedJob(job, sequence=self._num_added)
        self._num_added += 1
        self._jobs[job.id] = tracked
        self._waiting.add(tracked)
        self._age.add(tracked)
        self._deadlines.add(tracked)

    def update(self, job_id: str, *, priority: Priority, deadline: float | None) -> None:
        """For instance because a video of higher priority now follows the job, too."""
        tracked = self._tracked(job_id)
        job = dataclasses.replace(tracked.job, priority=priority, deadline=deadline)
        is_waiting = tracked.place == "waiting"
        if is_waiting:
            self._waiting.discard(tracked)
        self._deadlines.discard(tracked)
        tracked.job = job
        if is_waiting:
            self._waiting.add(tracked)
        if not tracked.is_denoised:
            self._deadlines.add(tracked)

    def remove(self, job_id: str) -> None:
        """Decoded, cancelled, failed or handed back: its room is free."""
        tracked = self._tracked(job_id)
        del self._jobs[job_id]
        if tracked.place == "waiting":
            self._waiting.discard(tracked)
        self._flight.discard(tracked)
        self._age.discard(tracked)
        self._deadlines.discard(tracked)

    def stepped(self, job_ids: Iterable[str], seconds: float) -> None:
        """These jobs made the step decided on, together; seconds: measured, without a swap.

        A job that failed is left out and removed. Where a batch was halved, tell each half's.
        """
        group = [self._tracked(job_id) for job_id in job_ids]
        for tracked in group:
            if tracked.place != "resident" or tracked.is_denoised:
                raise ValueError(
                    f"{tracked.job.id} is {tracked.place} after {tracked.steps_done} steps: it can't step."
                )
        self._age.charge(group, seconds)
        if self._is_detour:
            self._detour_seconds += seconds
        for tracked in group:
            tracked.steps_done += 1
            if tracked.is_denoised:
                self._age.discard(tracked)
                self._deadlines.discard(tracked)

    def decide(self, now: float) -> Decision:
        """The next step, and who comes and goes for it. What it says is taken as done. now: seconds, monotonic."""
        creditor = self._age.creditor()
        # While the oldest job finds no room, nobody else may take what comes free.
        is_open = creditor is None or self._flight.can_host(creditor)
        leader = self._leader(creditor, now=now, is_open=is_open)
        decision = Decision() if leader is None else self._follow(leader, is_open=is_open)
        self._num_passed_over = self.num_waiting
        return decision

    def _follow(self, leader: _Leader, *, is_open: bool) -> Decision:
        self._is_detour = leader.reason == "detour"
        self._switch_to(leader.job.phase.expert)
        parked = self._make_room(leader.job)
        boarded = self._board(leader.job, self._mates(leader.job, parked, is_open=is_open))
        return Decision(
            park=_ids(parked),
            unpark=_ids(tracked for tracked, origin in boarded if origin == "parked"),
            admit=_ids(tracked for tracked, origin in boarded if origin == "waiting"),
            step=self._group(leader, [tracked for tracked, _ in boarded]),
        )

    def _leader(self, creditor: TrackedJob | None, *, now: float, is_open: bool) -> _Leader | None:
        if creditor is not None and is_open:
            return _Leader(creditor, "owed")
        urgent = self._deadlines.most_urgent(now)
        if urgent is not None and (is_open or urgent.place != "waiting") and self._flight.can_host(urgent):
            return _Leader(urgent, "urgent")
        return self._ranked_leader(is_open=is_open)

    def _ranked_leader(self, *, is_open: bool) -> _Leader | None:
        candidates = self._candidates(is_open=is_open)
        best = next(filter(self._flight.can_host, candidates), None)
        if best is None:
            return None
        detour = self._detour(best, candidates)
        return _Leader(best, "best") if detour is None else _Leader(detour, "detour")

    def _candidates(self, *, is_open: bool) -> list[TrackedJob]:
        """By rank: all in flight, and for each expert the best that waits."""
        newcomers = self._waiting.firsts() if is_open else []
        return sorted([*self._flight.runnable(), *newcomers], key=_rank)

    def _detour(self, best: TrackedJob, candidates: list[TrackedJob]) -> TrackedJob | None:
        """Who can finish a phase on the expert whose turn it is, where the best job would need the other one."""
        resident = self._resident_expert
        if resident is None or resident == best.phase.expert:
            return None
        for tracked in candidates:
            seconds_left = self._longest_detour(best, tracked) - self._detour_seconds
            is_quick = tracked.phase.expert == resident and tracked.phase_seconds <= seconds_left
            if is_quick and self._flight.has_room_beside(tracked):
                return tracked
        return None

    def _longest_detour(self, best: TrackedJob, tracked: TrackedJob) -> float:
        """Seconds between two changes of the expert for which the best job may be held up for another one's phase.

        For one that it then has as company: as long as it needs itself, at most.
        """
        longest = DETOUR * self._limits.swap_seconds
        if tracked.catches_up_with(best, token_budget=self._limits.token_budget):
            return max(longest, best.remaining_seconds)
        return longest

    def _switch_to(self, expert: "ExpertName") -> None:
        if expert != self._resident_expert:
            self._resident_expert = expert
            self._detour_seconds = 0.0

    def _make_room(self, leader: TrackedJob) -> list[TrackedJob]:
        victims = self._flight.victims_of(leader) or []
        for victim in victims:
            self._flight.park(victim)
        return victims

    def _mates(self, leader: TrackedJob, parked: list[TrackedJob], *, is_open: bool) -> list[TrackedJob]:
        """Who could share the leader's forward: those on the device first, those that wait last."""
        in_flight = [
            tracked
            for tracked in self._flight.runnable()
            if tracked.group == leader.group and tracked is not leader and tracked not in parked
        ]
        in_flight.sort(key=lambda tracked: (tracked.place != "resident", tracked.rank))
        newcomers = self._waiting.first_of_group(leader.group, self._limits.max_jobs_in_flight) if is_open else []
        return in_flight + [tracked for tracked in newcomers if tracked is not leader]

    def _board(self, leader: TrackedJob, mates: list[TrackedJob]) -> list[tuple[TrackedJob, Place]]:
        """Brings the leader and the mates for whom there is room; with the place that each comes from."""
        boarded: list[tuple[TrackedJob, Place]] = []
        tokens_left = self._limits.token_budget
        for tracked in [leader, *mates]:
            fits = tracked.step_tokens <= tokens_left and self._flight.has_room_beside(tracked)
            if not fits and tracked is not leader:
                continue
            tokens_left -= tracked.step_tokens
            boarded.append((tracked, tracked.place))
            if tracked.place == "waiting":
                self._waiting.discard(tracked)
            self._flight.bring(tracked)
        return boarded

    def _group(self, leader: _Leader, members: list[TrackedJob]) -> Group:
        latent_shape, expert = leader.job.group
        return Group(
            job_ids=_ids(members),
            latent_shape=latent_shape,
            expert=expert,
            followed_by=self._following(leader, members),
        )

    def _following(self, leader: _Leader, members: list[TrackedJob]) -> "ExpertName":
        """The expert of the step after this one, should nobody come. Looks one step ahead and takes it back."""
        current = leader.job.phase.expert
        for tracked in members:
            tracked.steps_done += 1
        goes_on = leader.reason == "urgent" and not leader.job.is_denoised
        follower = leader if goes_on else self._ranked_leader(is_open=True)
        following = current if follower is None else follower.job.phase.expert
        for tracked in members:
            tracked.steps_done -= 1
        return following

    def _tracked(self, job_id: str) -> TrackedJob:
        try:
            return self._jobs[job_id]
        except KeyError:
            raise ValueError(f"{job_id} is not here: add() it first.") from None


def _rank(tracked: TrackedJob) -> tuple[float, float, int]:
    return tracked.rank


def _ids(jobs: Iterable[TrackedJob]) -> tuple[str, ...]:
    return tuple(tracked.job.id for tracked in jobs)
