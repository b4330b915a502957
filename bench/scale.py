"""Are two workers twice one? Two real worker processes, one core each, in turns with one. `make bench NAME=scale`.

The embedded checkpoint, a real Redis-protocol server, a real S3 server; 40 jobs, from the first SUBMIT to the last
commit. For the turn of one worker the other is drained. It needs two idle cores. Each worker computes with one thread
and keeps to a core of its own: encoding and marking run beside the engine, and would else take the core that a second
worker is to add.
"""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.embedded_card import embedded_card
from bench.report import Figure, report
from bench.running import wait_until
from service.embedded import EmbeddedServers
from service.jobs.connection import connect
from service.jobs.operations import Operations
from service.jobs.queue import JobQueue
from service.jobs.request import parse, resolve
from service.jobs.store import VideoStore
from service.jobs.submission import Submission
from service.settings import Settings

ROUNDS = int(os.environ.get("ROUNDS", "3"))
NUM_JOBS = int(os.environ.get("JOBS", "40"))
LOOK_SECONDS = 0.02
NUM_WORKERS = 2
GOAL = 1.6


def main() -> int:
    # Ended from outside, it still ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="wanserve-bench-") as folder:
        return report(figures(Path(folder)))


def figures(folder: Path, *, rounds: int = ROUNDS, num_jobs: int = NUM_JOBS) -> Iterator[Figure]:
    pairs = list(seconds_of_one_and_two(folder, rounds=rounds, num_jobs=num_jobs))
    yield Figure(f"{num_jobs} jobs, one worker", statistics.median(one for one, _ in pairs), "s")
    yield Figure(f"{num_jobs} jobs, two workers", statistics.median(two for _, two in pairs), "s")
    ratio = statistics.median(one / two for one, two in pairs)
    yield Figure("throughput of two workers / of one", ratio, goal=GOAL, goal_is="at least")


def seconds_of_one_and_two(folder: Path, *, rounds: int, num_jobs: int) -> Iterator[tuple[float, float]]:
    """By round."""
    settings = Settings(data_dir=folder, log_level="warning", cpu_threads=1)
    with ExitStack() as opened:
        servers = opened.enter_context(EmbeddedServers.start(settings))
        assert servers.settings.redis_url is not None
        redis = opened.enter_context(connect(servers.settings.redis_url))
        queue, operations, store = JobQueue(redis, servers.settings), Operations(redis), VideoStore(redis)
        for core in range(NUM_WORKERS):
            opened.enter_context(working(servers.settings, core=core))
        wait_until(lambda: len(store.live_workers()) == NUM_WORKERS)
        second = store.live_workers()[1].name
        # The first jobs of each pay for lazy initialisation.
        _seconds_of(queue, num_jobs=4 * NUM_WORKERS)
        for _ in range(rounds):
            operations.drain(second)
            one = _seconds_of(queue, num_jobs=num_jobs)
            operations.undrain(second)
            yield one, _seconds_of(queue, num_jobs=num_jobs)


@contextmanager
def working(settings: Settings, *, core: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m worker`, where the system can do that on one core."""
    with subprocess.Popen([sys.executable, "-m", "worker"], env=settings.child_environment()) as process:
        if core is not None and hasattr(os, "sched_setaffinity"):
            # Before it has any thread but its first, whose cores the others get.
            os.sched_setaffinity(process.pid, {core})
        try:
            yield process
        finally:
            process.terminate()


def _seconds_of(queue: JobQueue, *, num_jobs: int) -> float:
    submissions = submissions_of(num_jobs)
    started = time.perf_counter()
    for submission in submissions:
        queue.submit(submission)
    while queue.depth() or queue.num_running():
        time.sleep(LOOK_SECONDS)
    return time.perf_counter() - started


def submissions_of(num_jobs: int) -> Sequence[Submission]:
    """All different: their seeds are drawn."""
    card = embedded_card()
    asked = parse({"prompt": "a red circle moves to the left on a white background", "seed": -1})
    return [Submission(request=resolve(asked, card).request, fingerprint=card.fingerprint) for _ in range(num_jobs)]


if __name__ == "__main__":
    sys.exit(main())
