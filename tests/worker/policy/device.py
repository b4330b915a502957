"""A device that does what the policy says and checks every word of it, with a bookkeeping of its own."""

from collections import Counter
from dataclasses import replace

from worker.policy.decision import Decision
from worker.policy.job import Job, Phase
from worker.policy.limits import Limits
from worker.policy.policy import Policy

AMPLE = Limits(token_budget=1, max_jobs_in_flight=1000, resident_bytes=10**9, parked_bytes=10**9, swap_seconds=0)
"""Room for everybody; forwards are not shared."""


def make_job(
    job_id: str,
    *,
    high: int = 2,
    low: int = 2,
    step_seconds: float = 1.0,
    rows: int = 1,
    tokens: int = 10,
    shape: tuple[int, ...] = (1, 16, 21, 60, 104),
    arrived_at: float = 0.0,
    **others,
) -> Job:
    phases = (Phase("high_noise", high, rows, step_seconds), Phase("low_noise", low, rows, step_seconds))
    job = Job(
        id=job_id,
        priority="standard",
        arrived_at=arrived_at,
        latent_shape=shape,
        row_tokens=tokens,
        phases=phases,
        decode_seconds=0.0,
        resident_bytes=10,
        parked_bytes=5,
    )
    return replace(job, **others)


class Device:
    """Its clock counts seconds of steps. Denoised jobs are decoded and removed at once."""

    def __init__(self, limits: Limits = AMPLE) -> None:
        self.limits = limits
        self.policy = Policy(limits)
        self.now = 0.0
        self.jobs: dict[str, Job] = {}
        self.places: dict[str, str] = {}
        self.steps_done: Counter[str] = Counter()
        self.finished: list[str] = []
        self.finished_at: dict[str, float] = {}
        self.decisions: list[Decision] = []
        self.num_swaps = 0

    def add(self, *jobs: Job) -> None:
        for job in jobs:
            self.policy.add(job)
            self.jobs[job.id] = job
            self.places[job.id] = "waiting"

    def cancel(self, job_id: str) -> None:
        self.policy.remove(job_id)
        del self.places[job_id]

    def run(self) -> None:
        """Until nothing is left to do."""
        while self.step() is not None:
            pass
        assert not self.places, "some jobs were left behind"

    def step(self) -> tuple[str, ...] | None:
        """Who made a step."""
        decision = self.policy.decide(self.now)
        self.decisions.append(decision)
        self._move(decision.park, "resident", "parked")
        self._move(decision.unpark, "parked", "resident")
        self._move(decision.admit, "waiting", "resident")
        assert self.policy.num_in_flight == self._count("resident") + self._count("parked")
        assert self.policy.num_waiting == self._count("waiting")
        if decision.step is None:
            return None
        self._forward(decision)
        return decision.step.job_ids

    def remaining_seconds(self, job_id: str) -> float:
        return sum(phase.step_seconds for phase in self._steps(job_id)[self.steps_done[job_id] :])

    def _move(self, job_ids, origin, target) -> None:
        for job_id in job_ids:
            assert self.places[job_id] == origin
            self.places[job_id] = target
        residents = [self.jobs[job_id] for job_id, place in self.places.items() if place == "resident"]
        parked = [self.jobs[job_id] for job_id, place in self.places.items() if place == "parked"]
        resident_bytes = sum(job.resident_bytes for job in residents)
        assert resident_bytes <= self.limits.resident_bytes or len(residents) == 1
        assert sum(job.parked_bytes for job in parked) <= self.limits.parked_bytes
        assert len(residents) + len(parked) <= self.limits.max_jobs_in_flight

    def _forward(self, decision: Decision) -> None:
        group = decision.step
        phases = [self._steps(job_id)[self.steps_done[job_id]] for job_id in group.job_ids]
        tokens = sum(
            phase.rows * self.jobs[job_id].row_tokens for phase, job_id in zip(phases, group.job_ids, strict=True)
        )
        assert len(set(group.job_ids)) == len(group.job_ids)
        assert tokens <= self.limits.token_budget or len(group.job_ids) == 1
        assert {self.places[job_id] for job_id in group.job_ids} == {"resident"}
        assert {phase.expert for phase in phases} == {group.expert}
        assert {self.jobs[job_id].latent_shape for job_id in group.job_ids} == {group.latent_shape}
        earlier = [past.step.expert for past in self.decisions[:-1] if past.step is not None]
        self.num_swaps += bool(earlier) and earlier[-1] != group.expert
        seconds = max(phase.step_seconds for phase in phases)
        self.now += seconds
        self.policy.stepped(group.job_ids, seconds)
        for job_id in group.job_ids:
            self.steps_done[job_id] += 1
            if self.steps_done[job_id] == self.jobs[job_id].num_steps:
                self.finished.append(job_id)
                self.finished_at[job_id] = self.now
                del self.places[job_id]
                self.policy.remove(job_id)

    def _count(self, place: str) -> int:
        return sum(each == place for each in self.places.values())

    def _steps(self, job_id: str) -> list[Phase]:
        return [phase for phase in self.jobs[job_id].phases for _ in range(phase.num_steps)]
