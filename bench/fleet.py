"""Does it grow from one GPU to ten thousand? `make bench NAME=fleet`; `python -m bench.fleet 1 1000`: these sizes only.

A simulation: worker/policy as it is, the queue's order mirrored (bench/fleet_queue.py, which a test holds to the real
scripts), seconds of A14B from the cost model at an assumed half of an H100's peak: no GPU was measured. Redis' part is
measured here: CPU seconds of a real server, an operation. Load follows the hours of a day around 0.7 of the fleet,
1.05 at noon.
"""

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bench.fleet_load import KINDS, day_load, mean_seconds
from bench.fleet_redis import bytes_a_job, operation_seconds
from bench.fleet_run import HEARTBEAT_SECONDS, HOUR_SECONDS, PRIORITIES, Faults, Outcome, ideal_ends, run_fleet, waits
from bench.report import Figure, report

HOURS: dict[int, tuple[float, float]] = {1: (0, 240), 10: (0, 72), 100: (0, 24), 1_000: (9, 14), 10_000: (11.25, 12.25)}
"""From, to, after midnight; of the largest fleets only those around noon, when they have too little."""

SHARE = 0.7
WARM_HOURS = 0.5
"""Until a fleet that began with nothing to do is as full as the hour wants it."""

SPOT_PER_HOUR = 0.05
POLL_SECONDS = {"interactive": 2.0, "standard": 10.0}
"""How often a client looks at a video that it waits for; bulk comes by webhook."""

SAMPLES_AN_HOUR = 60
GOAL_GPUS = 1_000


def main() -> int:
    sizes = [int(text) for text in sys.argv[1:]] or list(HOURS)
    return report(all_figures(sizes))


def all_figures(sizes: Sequence[int]) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="wanserve-bench-") as folder:
        seconds = operation_seconds(Path(folder) / "operations", num_jobs=300)
        memory = bytes_a_job(Path(folder) / "memory", num_jobs=1000)
    for name, each in seconds.items():
        yield Figure(f"Redis: {name}, CPU of the server", each * 1e6, "us")
    yield Figure("Redis: memory of a waiting job", memory / 1000, "kB")
    yield Figure("a job, mean", mean_seconds(), "GPU s")
    for num_gpus in sizes:
        yield from size_figures(num_gpus, seconds)
    yield from spot_figures()


def size_figures(num_gpus: int, operation_seconds: dict[str, float]) -> Iterator[Figure]:
    rng = np.random.default_rng(num_gpus)
    load = day_load(num_gpus, share=SHARE, hours=HOURS[num_gpus], rng=rng)
    started = time.perf_counter()
    outcome = run_fleet(num_gpus, load, faults=Faults(), rng=rng)
    simulated = time.perf_counter() - started
    ideal = ideal_ends(load, num_gpus)
    after = (HOURS[num_gpus][0] + WARM_HOURS) * HOUR_SECONDS
    yield Figure(f"{num_gpus} GPUs: jobs", len(load))
    yield from wait_figures(outcome, ideal, after=after)
    yield Figure(f"{num_gpus} GPUs: utilisation", outcome.utilisation)
    yield Figure(f"{num_gpus} GPUs: jobs that failed", outcome.num_failed)
    yield from redis_figures(outcome, operation_seconds)
    yield Figure(f"{num_gpus} GPUs: simulated in", simulated, "s")


def wait_figures(outcome: Outcome, ideal: np.ndarray, *, after: float) -> Iterator[Figure]:
    num_gpus = outcome.num_gpus
    for priority in PRIORITIES:
        ours = outcome.waits(priority, after=after)
        best = waits(outcome.load, ideal, priority, after=after)
        for percent in (50, 95, 99):
            yield Figure(f"{num_gpus} GPUs: {priority}, p{percent} wait", float(np.percentile(ours, percent)), "s")
        yield Figure(f"{num_gpus} GPUs: {priority}, p95 wait, ideal", float(np.percentile(best, 95)), "s")
        if priority == "interactive":
            ratio = float(np.percentile(ours, 95) / np.percentile(best, 95))
            goal = 2.0 if num_gpus == GOAL_GPUS else None
            yield Figure(f"{num_gpus} GPUs: interactive, p95 / ideal", ratio, goal=goal)


def redis_figures(outcome: Outcome, operation_seconds: dict[str, float]) -> Iterator[Figure]:
    """Of the busiest hour."""
    rates = operation_rates(outcome)
    busy = sum(rates[name] * operation_seconds[name] for name in rates)
    hour = int(np.argmax(busy))
    num_gpus, goal = outcome.num_gpus, 0.1 if outcome.num_gpus == GOAL_GPUS else None
    total = sum(float(rate[hour]) for rate in rates.values())
    yield Figure(f"{num_gpus} GPUs: Redis operations", total, "/s")
    yield Figure(f"{num_gpus} GPUs: Redis, one server does of these", total / float(busy[hour]), "/s")
    yield Figure(f"{num_gpus} GPUs: Redis, share of one server", float(busy[hour]), goal=goal)


def operation_rates(outcome: Outcome) -> dict[str, np.ndarray]:
    """Operations a second, by hour."""
    first = int(outcome.load.arrivals[0] // HOUR_SECONDS)
    counted = {name: counts[first:-1] / HOUR_SECONDS for name, counts in outcome.hours.items()}
    num_hours = len(counted["submit"])
    times = (first + (np.arange(num_hours * SAMPLES_AN_HOUR) + 0.5) / SAMPLES_AN_HOUR) * HOUR_SECONDS
    looks = np.zeros(num_hours)
    for priority, seconds in POLL_SECONDS.items():
        looks += live(outcome, priority, times).reshape(num_hours, -1).mean(axis=1) / seconds
    beats = np.full(num_hours, outcome.num_gpus / HEARTBEAT_SECONDS)
    return counted | {"get": looks, "renew": beats, "reclaim": beats, "show": beats}


def live(outcome: Outcome, priority: str, times: np.ndarray) -> np.ndarray:
    """Videos of the priority that wait or run, at each time."""
    is_meant = np.array([kind.priority == priority for kind in KINDS])[outcome.load.kinds]
    arrivals, ends = outcome.load.arrivals[is_meant], np.sort(outcome.ends[is_meant])
    return np.searchsorted(arrivals, times) - np.searchsorted(ends, times)


def spot_figures(*, num_gpus: int = 100, hours: tuple[float, float] = (6, 18)) -> Iterator[Figure]:
    load = day_load(num_gpus, share=SHARE, hours=hours, rng=np.random.default_rng(1))
    for name, has_notice, has_checkpoints, goal in (
        ("SIGTERM first", True, True, 1.0),
        ("killed at once", False, True, 1.0),
        ("killed, no checkpoints", False, False, None),
    ):
        faults = Faults(per_gpu_hour=SPOT_PER_HOUR, has_notice=has_notice, has_checkpoints=has_checkpoints)
        outcome = run_fleet(num_gpus, load, faults=faults, rng=np.random.default_rng(2))
        yield Figure(f"spot, 5 %/h, {name}: GPU time lost", 100 * outcome.lost_share, "%", goal=goal)
        yield Figure(f"spot, 5 %/h, {name}: jobs that failed", outcome.num_failed)


if __name__ == "__main__":
    sys.exit(main())
