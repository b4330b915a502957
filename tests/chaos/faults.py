"""What befalls a cluster in a storm, one thing at a time."""

import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tests.chaos.cluster import LEASE_SECONDS, Cluster, wait_until

SHORT_SECONDS = 0.3
LONG_SECONDS = LEASE_SECONDS + 1.5


class Fault(StrEnum):
    KILL_WORKER = "SIGKILL of a worker at work"
    FREEZE_WORKER = "SIGSTOP of a worker at work for longer than its lease, then SIGCONT"
    STOP_WORKER = "SIGTERM of a worker at work"
    KILL_GATEWAY = "SIGKILL of the gateway"
    BLINK_REDIS = "SIGKILL of Redis, back within the lease"
    LOSE_REDIS = "SIGKILL of Redis, away for longer than the lease"
    BLINK_STORAGE = "SIGKILL of S3, back at once"
    LOSE_STORAGE = "SIGKILL of S3, away for longer than the lease"


@dataclass(frozen=True, slots=True)
class Plan:
    """How many orders and how often each fault."""

    num_orders: int
    num_workers: int
    faults: tuple[Fault, ...]


SHORT = Plan(num_orders=24, num_workers=2, faults=tuple(Fault))
FULL = Plan(
    num_orders=200,
    num_workers=3,
    faults=(
        *[Fault.KILL_WORKER] * 16,
        *[Fault.FREEZE_WORKER] * 6,
        *[Fault.STOP_WORKER] * 6,
        *[Fault.KILL_GATEWAY] * 5,
        *[Fault.BLINK_REDIS] * 2,
        *[Fault.LOSE_REDIS] * 2,
        *[Fault.BLINK_STORAGE] * 2,
        *[Fault.LOSE_STORAGE] * 2,
    ),
)


def shuffled(faults: Sequence[Fault], chance: random.Random) -> list[Fault]:
    return chance.sample(faults, len(faults))


def befall(cluster: Cluster, fault: Fault) -> None:
    """Returns when what was killed is back, or on its way."""
    match fault:
        case Fault.KILL_WORKER:
            _kill_worker(cluster)
        case Fault.FREEZE_WORKER:
            _freeze_worker(cluster)
        case Fault.STOP_WORKER:
            _stop_worker(cluster)
        case Fault.KILL_GATEWAY:
            cluster.kill_gateway()
            cluster.start_gateway()
        case Fault.BLINK_REDIS:
            _take_away(cluster.kill_redis, cluster.revive_redis, seconds=SHORT_SECONDS)
        case Fault.LOSE_REDIS:
            _take_away(cluster.kill_redis, cluster.revive_redis, seconds=LONG_SECONDS)
        case Fault.BLINK_STORAGE:
            _take_away(cluster.kill_storage, cluster.revive_storage, seconds=SHORT_SECONDS)
        case Fault.LOSE_STORAGE:
            _take_away(cluster.kill_storage, cluster.revive_storage, seconds=LONG_SECONDS)


def _kill_worker(cluster: Cluster) -> None:
    worker = cluster.worker_at_work()
    worker.kill()
    worker.join()
    cluster.start_worker()


def _freeze_worker(cluster: Cluster) -> None:
    worker = cluster.worker_at_work()
    cluster.send(worker, signal.SIGSTOP)
    _let_pass(LONG_SECONDS)
    cluster.send(worker, signal.SIGCONT)


def _stop_worker(cluster: Cluster) -> None:
    worker = cluster.worker_at_work()
    worker.terminate()
    worker.join()
    cluster.start_worker()


def _take_away(kill: Callable[[], None], revive: Callable[[], None], *, seconds: float) -> None:
    kill()
    _let_pass(seconds)
    revive()


def _let_pass(seconds: float) -> None:
    """The length of an outage is what it is about."""
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= end)
