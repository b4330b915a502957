"""What a fleet is asked for: a day-shaped stream of videos from tenants of unequal size."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.simulate import FILM, LIMITS, PREVIEW, alone_seconds, planned
from model.params import GenerationParams
from worker.policy.job import Job, Priority

DAY_SECONDS = 86_400.0
SWING = 0.5
"""Of the arrival rate around its mean: at noon half more, at midnight half less."""

SHORT_FILM = replace(FILM, width=832, height=480)
NUM_TENANTS = 40


class Kind(NamedTuple):
    priority: Priority
    params: GenerationParams
    part: float
    """Of all jobs."""


KINDS = (
    Kind("interactive", PREVIEW, 0.375),
    Kind("interactive", SHORT_FILM, 0.125),
    Kind("standard", SHORT_FILM, 0.4),
    Kind("bulk", FILM, 0.1),
)


@dataclass(frozen=True, slots=True)
class Work:
    """What one kind of job takes on one GPU."""

    job: Job
    shape: str

    @property
    def seconds(self) -> float:
        """Alone, the experts brought once each."""
        return alone_seconds(self.job) + 2 * LIMITS.swap_seconds


@cache
def work_of(kind: int) -> Work:
    priority, params, _ = KINDS[kind]
    return Work(planned("", params, priority=priority), f"{params.width}x{params.height}x{params.num_frames}")


def mean_seconds() -> float:
    """Of GPU a job."""
    return sum(kind.part * work_of(number).seconds for number, kind in enumerate(KINDS))


@dataclass(frozen=True, slots=True)
class Load:
    """Parallel arrays, in the order of arrival."""

    arrivals: NDArray[np.float64]
    """Seconds after midnight of the first day."""

    kinds: NDArray[np.int64]
    tenants: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.arrivals)


def day_load(num_gpus: int, *, share: float, hours: Sequence[float], rng: np.random.Generator) -> Load:
    """share: of the fleet's seconds that an average day asks for; hours: from, to, after the first midnight."""
    start, end = (3600.0 * hour for hour in hours)
    rate = num_gpus * share / mean_seconds() * (1 + SWING)
    times = np.sort(rng.uniform(start, end, rng.poisson(rate * (end - start))))
    # Thinned from the highest rate to the hour's.
    is_kept = rng.random(len(times)) * (1 + SWING) < 1 - SWING * np.cos(2 * np.pi * times / DAY_SECONDS)
    arrivals = times[is_kept]
    sizes = 1.0 / np.arange(1, NUM_TENANTS + 1)
    return Load(
        arrivals=arrivals,
        kinds=rng.choice(len(KINDS), len(arrivals), p=[kind.part for kind in KINDS]),
        tenants=rng.choice(NUM_TENANTS, len(arrivals), p=sizes / sizes.sum()),
    )
