"""The numbers of a storm and of the trials, as bench/report.py prints them."""

from collections import Counter
from collections.abc import Iterator

from bench.report import Figure
from tests.chaos.cluster import HEARTBEAT_SECONDS, LEASE_SECONDS, Cluster
from tests.chaos.evidence import Evidence
from tests.chaos.journal import Deed
from tests.chaos.judge import (
    broken_files,
    doubled,
    executions_of,
    lost,
    num_repeated_steps,
    num_unsaved_steps,
    orphans,
    told_wrongly,
)
from tests.chaos.trials import (
    FLOOD,
    NUM_POSTS,
    TRICKLE,
    executions_of_equal_posts,
    last_place_in_flood,
    seconds_until_resumed,
    steps_after_cancel,
    videos_of_one_key,
)

NUM_TRIALS = 5
LONG_STEP_SECONDS = 1.0
"""A step of a large model lasts longer than two looks of the worker at what is still wanted."""


def storm_figures(evidence: Evidence) -> Iterator[Figure]:
    journal, jobs = evidence.journal, executions_of(evidence.journal)
    statuses = Counter(receipt.last_status for receipt in evidence.receipts)
    yield Figure("videos ordered", len(evidence.receipts))
    for status, count in sorted(statuses.items()):
        yield Figure(f"  {status}", count)
    yield Figure("requests that were sent again", sum(receipt.num_repeats for receipt in evidence.receipts))
    yield Figure("jobs", len(jobs))
    yield Figure("executions", sum(map(len, jobs.values())))
    yield Figure("acknowledged videos lost", _count(lost(evidence)), goal=0)
    yield Figure("made or committed twice", _count(doubled(evidence)), goal=0)
    yield Figure("without exactly one terminal event", _count(told_wrongly(evidence)), goal=0)
    yield Figure("files that do not decode", _count(broken_files(evidence)), goal=0)
    yield Figure("orphan objects and keys", _count(orphans(evidence.remains)), goal=0)
    yield Figure("steps", sum(entry.deed is Deed.STEPPED for entry in journal))
    # What was not saved may be done again, nothing else.
    yield Figure("steps repeated", num_repeated_steps(journal), goal=num_unsaved_steps(journal))


def trial_figures(cluster: Cluster) -> Iterator[Figure]:
    """Takes a cluster without workers."""
    with cluster.client() as client:
        cluster.start_workers(2)
        yield Figure(f"{NUM_POSTS} equal posts: executions", executions_of_equal_posts(cluster, client), goal=1)
        yield Figure(f"{NUM_POSTS} posts of one key: videos", videos_of_one_key(client), goal=1)
        yield Figure(f"last of {TRICKLE} behind a flood of {FLOOD}", last_place_in_flood(cluster), goal=30)
        waits = []
        for seed in range(NUM_TRIALS):
            waits.append(seconds_until_resumed(cluster, client, seed=seed))
            cluster.start_workers(1)
        goal = LEASE_SECONDS + HEARTBEAT_SECONDS + 2
        yield Figure("SIGKILL of a worker to resumed step", max(waits), "s", goal=goal)
        cluster.end_workers()
        cluster.start_workers(1, step_seconds=LONG_STEP_SECONDS)
        steps = [steps_after_cancel(cluster, client, seed=seed) for seed in range(NUM_TRIALS)]
        yield Figure(f"steps of {LONG_STEP_SECONDS:g} s after a cancellation", max(steps), goal=2)


def _count(sentences: Iterator[str]) -> int:
    return sum(1 for _ in sentences)
