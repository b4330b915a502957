"""How long SUBMIT takes on two servers, one with a short queue and one with a long one."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

from redis import Redis

from bench.embedded_card import embedded_card
from service.embedded.valkey import Valkey
from service.jobs.connection import connect
from service.jobs.queue import JobQueue
from service.jobs.request import parse, resolve
from service.jobs.submission import Submission
from service.settings import Settings

SHORT, LONG = 100, 100_000
ROUNDS = int(os.environ.get("ROUNDS", "15"))
SUBMITS_A_ROUND = 20
NUM_FILLERS = 2
NO_LIMIT = 10**9


def submit_seconds(folder: Path) -> list[tuple[float, float]]:
    """Of one SUBMIT, on the short and on the long queue, in every round."""
    with ExitStack() as opened:
        short, long = (opened.enter_context(_filled(folder / str(depth), depth)) for depth in (SHORT, LONG))
        return [(_time_submits(short), _time_submits(long)) for _ in range(ROUNDS)]


@contextmanager
def _filled(folder: Path, depth: int) -> Iterator[JobQueue]:
    """A queue on a server of its own, in which so many jobs wait."""
    server = Valkey(folder)
    server.start()
    try:
        with connect(server.url) as redis:
            redis.config_set("maxmemory", 0)
            # Only while it is filled: nobody would miss these jobs.
            redis.config_set("appendfsync", "no")
            with ProcessPoolExecutor(NUM_FILLERS, get_context("spawn")) as fillers:
                list(fillers.map(_fill, repeat(server.url, NUM_FILLERS), repeat(depth // NUM_FILLERS)))
            redis.config_set("appendfsync", "always")
            yield _queue(redis)
    finally:
        server.stop()


def _fill(url: str, count: int) -> None:
    with connect(url) as redis:
        queue = _queue(redis)
        for submission in _submissions(count):
            queue.submit(submission)


def _time_submits(queue: JobQueue) -> float:
    """Seconds of one; the queue is as long as before when it returns."""
    submissions = _submissions(SUBMITS_A_ROUND)
    started = time.perf_counter()
    submitted = [queue.submit(submission) for submission in submissions]
    seconds = time.perf_counter() - started
    for each in submitted:
        queue.cancel(each.record.id)
    return seconds / len(submissions)


def _queue(redis: Redis) -> JobQueue:
    return JobQueue(redis, Settings(max_queue_depth=NO_LIMIT))


def _submissions(count: int) -> list[Submission]:
    """All different: their seeds are drawn."""
    card = embedded_card()
    asked = parse({"prompt": "a red ball bouncing on a blue background", "seed": -1})
    return [Submission(request=resolve(asked, card).request, fingerprint=card.fingerprint) for _ in range(count)]
