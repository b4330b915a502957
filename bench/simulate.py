"""How long do previews wait beside films? worker/policy against two naive ones, on a simulated H100.

A discrete-event simulation: no GPU, no torch, the same arrivals for each policy. Seconds come from the cost model
of Wan2.2-T2V-A14B at SHARE of an H100's peak. A job's wait is what it takes beyond its own seconds, alone and
without swaps. `make bench NAME=simulate`.
"""

import random
import statistics
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from bench.report import Figure, report
from model.a14b import SHAPE
from model.cost import DeviceRate
from model.describe import official_card
from model.params import GenerationParams
from model.schedule import make_schedule
from worker.policy.estimate import Estimator
from worker.policy.job import Job, Phase, Priority
from worker.policy.limits import Limits
from worker.policy.policy import Policy

CARD = official_card(SHAPE, name="a14b", digest="0" * 64)

SHARE = 0.5
"""Of the peak; the official code reaches 0.42 at 480p and 0.51 at 720p on one H100."""

ESTIMATOR = Estimator(SHAPE, DeviceRate(peak_flop_per_second=989e12, share=SHARE), dtype_bytes=2)
LIMITS = Limits(
    # A forward is bound by compute from a few thousand tokens on, so that jobs of 81 frames never share one.
    token_budget=8192,
    max_jobs_in_flight=8,
    resident_bytes=8 * 10**9,
    parked_bytes=16 * 10**9,
    # 28.6 GB from pinned host memory over PCIe 4.
    swap_seconds=1.15,
)
WIDTH = LIMITS.max_jobs_in_flight
NUM_FILMS = 600
PREVIEWS_PER_FILM = 4
LOAD = 0.8
"""Seconds of work that arrive in a second."""

FILM = CARD.default_params("a film")
PREVIEW = replace(
    CARD.default_params("a preview"),
    width=832,
    height=480,
    # The recipe of the distilled four-step LoRAs.
    num_inference_steps=4,
    guidance_scale=1.0,
    guidance_scale_2=1.0,
    flow_shift=5.0,
)
NUM_WAITING = 10_000
NUM_DECISIONS = 400


class Step(NamedTuple):
    job_ids: tuple[str, ...]
    expert: str


class Scheduler(Protocol):
    """What the simulated device asks."""

    def add(self, job: Job) -> None: ...
    def next_step(self, now: float) -> Step | None: ...
    def stepped(self, step: Step, seconds: float) -> None: ...
    def remove(self, job_id: str) -> None: ...


class OurScheduler:
    """worker/policy, as it is."""

    def __init__(self) -> None:
        self._policy = Policy(LIMITS)

    def add(self, job: Job) -> None:
        self._policy.add(job)

    def next_step(self, now: float) -> Step | None:
        group = self._policy.decide(now).step
        return None if group is None else Step(group.job_ids, group.expert)

    def stepped(self, step: Step, seconds: float) -> None:
        self._policy.stepped(step.job_ids, seconds)

    def remove(self, job_id: str) -> None:
        self._policy.remove(job_id)


class TurnsScheduler:
    """A step for each of `width` jobs in turn; the others wait in line. Width 1 is first come, first served."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._line: deque[Job] = deque()
        self._ring: deque[Job] = deque()
        self._steps_done: dict[str, int] = {}

    def add(self, job: Job) -> None:
        self._line.append(job)

    def next_step(self, now: float) -> Step | None:
        while self._line and len(self._ring) < self._width:
            self._ring.append(self._line.popleft())
        if not self._ring:
            return None
        job = self._ring[0]
        return Step((job.id,), phase_of(job, self._steps_done.get(job.id, 0)).expert)

    def stepped(self, step: Step, seconds: float) -> None:
        job = self._ring[0]
        self._steps_done[job.id] = self._steps_done.get(job.id, 0) + 1
        self._ring.rotate(-1)

    def remove(self, job_id: str) -> None:
        self._ring = deque(job for job in self._ring if job.id != job_id)


@dataclass(slots=True)
class Outcome:
    """What one scheduler made of the load."""

    wait_seconds: dict[str, float] = field(default_factory=dict)
    completion_seconds: dict[str, float] = field(default_factory=dict)
    """From arrival to decoded."""

    num_swaps: int = 0
    work_seconds: float = 0.0

    @property
    def utilisation(self) -> float:
        """Of the seconds in which there was work, those in which work was done."""
        return self.work_seconds / (self.work_seconds + self.num_swaps * LIMITS.swap_seconds)

    def wait_percentile(self, kind: str, percent: int) -> float:
        waits = [seconds for job_id, seconds in self.wait_seconds.items() if job_id.startswith(kind)]
        return statistics.quantiles(waits, n=100, method="inclusive")[percent - 1]

    def mean_completion(self, kind: str) -> float:
        return statistics.fmean(
            seconds for job_id, seconds in self.completion_seconds.items() if job_id.startswith(kind)
        )


def main() -> int:
    load = mixed_load(random.Random(0), num_films=NUM_FILMS)
    ours, fifo, turns = (simulate(load, each) for each in (OurScheduler(), TurnsScheduler(1), TurnsScheduler(WIDTH)))
    return report([*figures(ours, fifo, turns), *decision_figures(decision_seconds(random.Random(0)))])


def figures(ours: Outcome, fifo: Outcome, turns: Outcome) -> Iterator[Figure]:
    for name, outcome in (("policy", ours), ("fifo", fifo), ("round-robin", turns)):
        yield Figure(f"{name}: previews' p50 wait", outcome.wait_percentile("preview", 50), "s")
        yield Figure(f"{name}: previews' p95 wait", outcome.wait_percentile("preview", 95), "s")
        yield Figure(f"{name}: films' mean completion", outcome.mean_completion("film"), "s")
        yield Figure(f"{name}: swaps", outcome.num_swaps)
        yield Figure(f"{name}: utilisation", outcome.utilisation)
    for name, other in (("fifo", fifo), ("round-robin", turns)):
        yield from ratios(name, ours, other)


def ratios(name: str, ours: Outcome, other: Outcome) -> Iterator[Figure]:
    small = ours.wait_percentile("preview", 95) / other.wait_percentile("preview", 95)
    large = ours.mean_completion("film") / other.mean_completion("film")
    yield Figure(f"previews' p95 wait / {name}", small, goal=0.1)
    # Previews are 5 % of the work: going first costs the films at least that.
    yield Figure(f"films' mean completion / {name}", large, goal=1.06)
    yield Figure(f"swaps / {name}", ours.num_swaps / other.num_swaps, goal=1.0)
    yield Figure(f"utilisation / {name}", ours.utilisation / other.utilisation, goal=1.0, goal_is="at least")


def decision_figures(seconds: Sequence[float]) -> Iterator[Figure]:
    yield Figure("policy decision over 10 000 waiting jobs", statistics.median(seconds) * 1e3, "ms", goal=2.0)
    yield Figure("  its 99th percentile", statistics.quantiles(seconds, n=100)[98] * 1e3, "ms")


def mixed_load(rng: random.Random, *, num_films: int) -> list[Job]:
    """Films with previews, at random times, in the order of arrival; no priority helps either."""
    kinds = ["film"] * num_films + ["preview"] * (num_films * PREVIEWS_PER_FILM)
    rng.shuffle(kinds)
    models = {"film": planned("film", FILM), "preview": planned("preview", PREVIEW)}
    work_seconds = sum(alone_seconds(models[kind]) for kind in kinds)
    mean_gap = work_seconds / LOAD / len(kinds)
    now, jobs = 0.0, []
    for index, kind in enumerate(kinds):
        now += rng.expovariate(1 / mean_gap)
        jobs.append(replace(models[kind], id=f"{kind}-{index}", arrived_at=now))
    return jobs


def planned(job_id: str, params: GenerationParams, *, priority: Priority = "standard") -> Job:
    schedule = make_schedule(
        params.num_inference_steps,
        params.flow_shift,
        grid=CARD.sigma_grid,
        boundary_timestep=SHAPE.boundary_timestep,
    )
    return ESTIMATOR.job(job_id, params, schedule=schedule, priority=priority, arrived_at=0.0)


def simulate(load: Sequence[Job], scheduler: Scheduler) -> Outcome:
    """Works the load off, one step after another; what arrives during a step is seen after it."""
    outcome, arrivals, jobs = Outcome(), deque(load), {job.id: job for job in load}
    steps_done = dict.fromkeys(jobs, 0)
    now, resident = 0.0, None
    while len(outcome.completion_seconds) < len(jobs):
        while arrivals and arrivals[0].arrived_at <= now:
            scheduler.add(arrivals.popleft())
        step = scheduler.next_step(now)
        if step is None:
            now = arrivals[0].arrived_at
            continue
        if resident not in (None, step.expert):
            outcome.num_swaps += 1
            now += LIMITS.swap_seconds
        resident = step.expert
        # Above the token budget rows cost what they cost alone.
        seconds = sum(phase_of(jobs[job_id], steps_done[job_id]).step_seconds for job_id in step.job_ids)
        now += seconds
        outcome.work_seconds += seconds
        scheduler.stepped(step, seconds)
        for job_id in step.job_ids:
            steps_done[job_id] += 1
            job = jobs[job_id]
            if steps_done[job_id] == job.num_steps:
                now += job.decode_seconds
                outcome.work_seconds += job.decode_seconds
                outcome.completion_seconds[job_id] = now - job.arrived_at
                outcome.wait_seconds[job_id] = now - job.arrived_at - alone_seconds(job)
                scheduler.remove(job_id)
    return outcome


def phase_of(job: Job, steps_done: int) -> Phase:
    """Of the step after `steps_done`."""
    for phase in job.phases:
        if steps_done < phase.num_steps:
            return phase
        steps_done -= phase.num_steps
    raise ValueError(f"{job.id} has no step left.")


def alone_seconds(job: Job) -> float:
    return job.seconds


def decision_seconds(rng: random.Random) -> list[float]:
    """Of a decision and of the notice that its step is done, with a new job for every one that ends."""
    policy, taken = Policy(LIMITS), []
    steps_left: dict[str, int] = {}
    for number in range(NUM_WAITING):
        job = random_job(rng, f"job-{number}", now=0.0)
        policy.add(job)
        steps_left[job.id] = job.num_steps
    now, number = 0.0, NUM_WAITING
    for _ in range(NUM_DECISIONS):
        started = time.perf_counter()
        step = policy.decide(now).step
        assert step is not None
        policy.stepped(step.job_ids, 10.0)
        taken.append(time.perf_counter() - started)
        now += 10.0
        for job_id in step.job_ids:
            steps_left[job_id] -= 1
            if steps_left[job_id] == 0:
                policy.remove(job_id)
                job = random_job(rng, f"job-{number}", now=now)
                policy.add(job)
                steps_left[job.id] = job.num_steps
                number += 1
    return taken


def random_job(rng: random.Random, job_id: str, *, now: float) -> Job:
    """Any native size, any length, any number of steps, any priority, one in four with a deadline."""
    width, height = rng.choice(CARD.native_sizes)
    params = replace(
        FILM, width=width, height=height, num_frames=1 + 4 * rng.randrange(21), num_inference_steps=rng.randint(4, 50)
    )
    job = planned(job_id, params, priority=rng.choice(("interactive", "standard", "bulk")))
    deadline = now + rng.uniform(0.0, 1e5) if rng.random() < 0.25 else None
    return replace(job, arrived_at=now, deadline=deadline)


if __name__ == "__main__":
    sys.exit(main())
