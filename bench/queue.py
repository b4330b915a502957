"""What do durability and fairness cost? `make bench NAME=queue`.

SUBMIT on a long queue against a short one; POST and GET through the gateway against bare FastAPI handlers with one
Redis command each, on one durable server; and how soon an idle worker steps. Everything in turns: ratios are medians
over neighbours, so that a slow minute of the machine hits both.
"""

import signal
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.depths import LONG, SHORT, submit_seconds
from bench.first_step import first_step_seconds
from bench.report import Figure, report
from bench.traffic import Traffic, measure_traffic

POST_GOAL, GET_GOAL = 0.6, 0.7
DEPTH_GOAL = 1.3
FIRST_STEP_GOAL_MS = 150.0


def main() -> int:
    # Ended from outside, it still ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="wanserve-bench-") as folder:
        return report([*first_step_figures(Path(folder)), *traffic_figures(Path(folder)), *depth_figures(Path(folder))])


def first_step_figures(folder: Path) -> Iterator[Figure]:
    milliseconds = [seconds * 1000 for seconds in first_step_seconds(folder / "first_step")]
    yield Figure("POST to first step, idle worker", statistics.median(milliseconds), "ms", goal=FIRST_STEP_GOAL_MS)


def traffic_figures(folder: Path) -> Iterator[Figure]:
    shown = measure_traffic(folder / "traffic")
    yield _rate("bare handler, one SET", [each.bare_set for each in shown])
    yield _rate("POST, prompts seen before", [each.warm_post for each in shown])
    yield _rate("POST, new prompts", [each.cold_post for each in shown])
    yield _rate("bare handler, one GET", [each.bare_get for each in shown])
    yield _rate("GET of a waiting video", [each.waiting_get for each in shown])
    yield _rate("GET of a completed video", [each.completed_get for each in shown])
    yield from traffic_ratios(shown)


def traffic_ratios(shown: list[Traffic]) -> Iterator[Figure]:
    def median(numerator: str, denominator: str) -> float:
        return statistics.median(getattr(each, numerator) / getattr(each, denominator) for each in shown)

    yield Figure("POST / bare SET", median("warm_post", "bare_set"), goal=POST_GOAL, goal_is="at least")
    yield Figure("POST, new prompts / bare SET", median("cold_post", "bare_set"))
    yield Figure("GET, waiting / bare GET", median("waiting_get", "bare_get"), goal=GET_GOAL, goal_is="at least")
    yield Figure("GET, completed / bare GET", median("completed_get", "bare_get"), goal=GET_GOAL, goal_is="at least")


def depth_figures(folder: Path) -> Iterator[Figure]:
    pairs = submit_seconds(folder / "depths")
    yield Figure(f"SUBMIT, {SHORT} jobs wait", statistics.median(short for short, _ in pairs) * 1000, "ms")
    yield Figure(f"SUBMIT, {LONG} jobs wait", statistics.median(long for _, long in pairs) * 1000, "ms")
    ratio = statistics.median(long / short for short, long in pairs)
    yield Figure(f"SUBMIT, {LONG} / {SHORT} jobs wait", ratio, goal=DEPTH_GOAL)


def _rate(name: str, rates: list[float]) -> Figure:
    return Figure(name, statistics.median(rates), "requests/s")


if __name__ == "__main__":
    sys.exit(main())
