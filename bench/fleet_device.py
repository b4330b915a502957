"""One simulated GPU under the real worker/policy: what worker/loop.py and worker/runner.py do between two looks.

As long as the policy can't decide otherwise, steps are made in one stretch: `is_exact` makes every one by itself, for
the test that both give the same.
"""

import dataclasses
import math
from dataclasses import dataclass, field

from bench.fleet_load import Work
from bench.fleet_queue import Waiter
from bench.simulate import LIMITS, phase_of
from worker.policy.job import WEIGHTS, Job, Phase
from worker.policy.policy import Policy

CHECKPOINT_SECONDS = 30.0


@dataclass(slots=True)
class Ticket:
    """A job of the fleet from its arrival to its end."""

    waiter: Waiter
    work: Work
    arrived_at: float
    kept_steps: int = 0
    """In its checkpoint."""

    num_kills: int = 0
    lost_seconds: float = 0.0
    """Of steps that had to be made again."""

    started_at: float = math.inf


@dataclass(slots=True)
class Held:
    """A ticket on a GPU."""

    ticket: Ticket
    steps_done: int

    @property
    def job(self) -> Job:
        return self.ticket.work.job

    @property
    def phase(self) -> Phase:
        return phase_of(self.job, self.steps_done)

    @property
    def steps_left(self) -> int:
        """Of the phase."""
        steps = self.steps_done
        for phase in self.job.phases:
            if steps < phase.num_steps:
                return phase.num_steps - steps
            steps -= phase.num_steps
        return 0

    @property
    def is_denoised(self) -> bool:
        return self.steps_done == self.job.num_steps

    @property
    def remaining_seconds(self) -> float:
        seconds, skipped = self.job.decode_seconds, self.steps_done
        for phase in self.job.phases:
            seconds += max(0, phase.num_steps - skipped) * phase.step_seconds
            skipped = max(0, skipped - phase.num_steps)
        return seconds

    @property
    def saved_steps(self) -> int:
        """A checkpoint is written after the first step that ends CHECKPOINT_SECONDS after the last one."""
        kept = self.ticket.kept_steps
        made = min(self.steps_done, self.job.num_steps - 1) - kept
        return kept + made // self._steps_a_save * self._steps_a_save

    def num_saves(self, num_steps: int) -> int:
        """During so many more steps."""
        return (Held(self.ticket, self.steps_done + num_steps).saved_steps - self.saved_steps) // self._steps_a_save

    @property
    def _steps_a_save(self) -> int:
        return math.ceil(CHECKPOINT_SECONDS / self.job.phases[0].step_seconds)


@dataclass(slots=True)
class Stretch:
    """Steps of one group, one like the other."""

    members: tuple[Held, ...]
    start: float
    """After the swap, if there is one."""

    step_seconds: float
    num_steps: int

    @property
    def end(self) -> float:
        return self.start + self.num_steps * self.step_seconds

    def steps_until(self, now: float) -> int:
        """Whole ones."""
        return min(self.num_steps, max(0, math.floor((now - self.start) / self.step_seconds + 1e-9)))


@dataclass(slots=True)
class Books:
    """What all GPUs together did."""

    work_seconds: float = 0.0
    lost_seconds: float = 0.0
    num_swaps: int = 0
    num_steps: int = 0
    num_looks: int = 0
    """For another job, beside those in flight."""

    ended: list[tuple[Ticket, float]] = field(default_factory=list)


class Device:
    def __init__(self, books: Books, *, is_exact: bool = False) -> None:
        self._books = books
        self._is_exact = is_exact
        self._policy = Policy(LIMITS)
        self._expert: str | None = None
        self._held: dict[str, Held] = {}
        self._suspect: Ticket | None = None
        """One that was on a GPU that died: runs alone."""

        self.stretch: Stretch | None = None

    @property
    def is_stepping(self) -> bool:
        return bool(self._held) or self._suspect is not None

    @property
    def has_room(self) -> bool:
        is_alone = self._suspect is not None or any(held.ticket.num_kills for held in self._held.values())
        return not is_alone and self._policy.has_room

    @property
    def shapes(self) -> frozenset[str]:
        return frozenset(held.ticket.work.shape for held in self._held.values())

    @property
    def busy_seconds(self) -> float:
        return self._policy.busy_seconds

    def take(self, ticket: Ticket, *, now: float) -> None:
        if ticket.num_kills and self._held:
            self._suspect = ticket
        else:
            self._add(ticket, now=now)

    def book(self, now: float) -> float:
        """The steps made until now; ends and decodes what is denoised. When the engine is free again."""
        stretch, self.stretch = self.stretch, None
        if stretch is None:
            return now
        ids = [held.ticket.waiter.id for held in stretch.members]
        for _ in range(done := stretch.steps_until(now)):
            self._policy.stepped(ids, stretch.step_seconds)
        self._books.num_steps += done * len(ids)
        self._books.work_seconds += done * stretch.step_seconds
        free_at = max(now, stretch.start) if done else now
        for held in stretch.members:
            held.steps_done += done
            if held.is_denoised:
                free_at += held.job.decode_seconds
                self._books.work_seconds += held.job.decode_seconds
                self._books.ended.append((held.ticket, free_at))
                self._remove(held)
        return free_at

    def decide(self, now: float) -> None:
        """The next stretch, if there is anything to do."""
        if self._suspect is not None and not self._held:
            suspect, self._suspect = self._suspect, None
            self._add(suspect, now=now)
        group = self._policy.decide(now).step
        if group is None:
            return
        members = tuple(self._held[job_id] for job_id in group.job_ids)
        for held in members:
            held.ticket.started_at = min(held.ticket.started_at, now)
        if self._expert != group.expert:
            self._expert = group.expert
            self._books.num_swaps += 1
            now += LIMITS.swap_seconds
        self.stretch = Stretch(
            members=members,
            start=now,
            # Above the token budget rows cost what they cost alone.
            step_seconds=sum(held.phase.step_seconds for held in members),
            num_steps=self._steps_alike(members),
        )

    def die(self, now: float, *, has_notice: bool, has_checkpoints: bool) -> list[Ticket]:
        """Whoever was on it, with what is left of their work; a step under way is lost."""
        stretch, self.stretch = self.stretch, None
        if stretch is not None:
            done = stretch.steps_until(now)
            for held in stretch.members:
                held.steps_done += done
            self._books.num_steps += done * len(stretch.members)
            self._books.work_seconds += done * stretch.step_seconds
            self._books.lost_seconds += max(
                0.0, min(stretch.step_seconds, now - stretch.start - done * stretch.step_seconds)
            )
        tickets = [
            self._saved(held, has_notice=has_notice, has_checkpoints=has_checkpoints) for held in self._held.values()
        ]
        if self._suspect is not None:
            tickets.append(self._suspect)
        return tickets

    def _saved(self, held: Held, *, has_notice: bool, has_checkpoints: bool) -> Ticket:
        ticket, kept = held.ticket, 0
        if has_checkpoints:
            kept = min(held.steps_done, held.job.num_steps - 1) if has_notice else held.saved_steps
        lost = held.remaining_seconds
        ticket.kept_steps = kept
        ticket.num_kills += not has_notice
        ticket.lost_seconds += Held(ticket, kept).remaining_seconds - lost
        self._books.lost_seconds += Held(ticket, kept).remaining_seconds - lost
        return ticket

    def _add(self, ticket: Ticket, *, now: float) -> None:
        job = dataclasses.replace(
            ticket.work.job,
            id=ticket.waiter.id,
            arrived_at=now,
            phases=_without(ticket.work.job.phases, ticket.kept_steps),
        )
        self._policy.add(job)
        self._held[job.id] = Held(ticket, ticket.kept_steps)

    def _remove(self, held: Held) -> None:
        self._policy.remove(held.ticket.waiter.id)
        del self._held[held.ticket.waiter.id]

    def _steps_alike(self, members: tuple[Held, ...]) -> int:
        """So many times the policy says the same: its oldest job is the best too, and nobody else can join it."""
        if self._is_exact or len(members) > 1:
            return 1
        [leader] = members
        oldest = next(iter(self._held.values()))
        others = [held for held in self._held.values() if held is not leader]
        is_best = all(_weighed(leader) < _weighed(other) for other in others)
        return leader.steps_left if leader is oldest and is_best else 1


def _weighed(held: Held) -> float:
    return held.remaining_seconds / WEIGHTS[held.job.priority]


def _without(phases: tuple[Phase, ...], steps: int) -> tuple[Phase, ...]:
    left = []
    for phase in phases:
        skipped = min(steps, phase.num_steps)
        steps -= skipped
        if phase.num_steps > skipped:
            left.append(dataclasses.replace(phase, num_steps=phase.num_steps - skipped))
    return tuple(left)
