"""Work beside the requests. Of all gateways one at a time does a chore: a lease in Redis says which."""

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from redis import Redis

from service.errors import Unavailable
from service.jobs.connection import redis_errors
from service.jobs.lua import load_script
from service.logs import get_logger

LEASE_SECONDS = 60.0
"""Longer than one run of a chore should take; so long a killed gateway's chore waits for another."""

STOP_SECONDS = 2.0

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Chore:
    """Something to do again and again, in portions that end soon. Doing it twice must be harmless."""

    name: str
    every_seconds: float
    """Between two beginnings, by whichever gateways."""

    do: Callable[[], object]
    is_everyones: bool = False
    """Each gateway does it by itself, with no lease: what must notice an outage of Redis, say."""


class Chores:
    """Each has a thread of its own, so that one that hangs delays no other. Runs from start() to stop()."""

    def __init__(self, redis: Redis, chores: Sequence[Chore]) -> None:
        self._is_over = threading.Event()
        self._rounds = [ChoreRound(redis, chore) for chore in chores]
        self._threads = [
            threading.Thread(target=self._run, args=(each,), name=f"chore-{each.name}", daemon=True)
            for each in self._rounds
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Returns after STOP_SECONDS at the latest: a chore that was cut off is done again by another gateway."""
        self._is_over.set()
        deadline = time.monotonic() + STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self, each: "ChoreRound") -> None:
        while not self._is_over.wait(each.pause_seconds):
            each.run()


class ChoreRound:
    """One gateway's part in one chore."""

    def __init__(self, redis: Redis, chore: Chore, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = chore.name
        self.pause_seconds = chore.every_seconds if chore.is_everyones else min(chore.every_seconds / 2, 10.0)
        """Between two runs, most of which only look at the lease."""

        self._chore = chore
        self._clock = clock
        self._lease = load_script(redis, "lease")
        self._was_available = True

    def run(self) -> bool:
        """Do the chore if it is its time and nobody else is at it. False when it was not done."""
        try:
            is_done = self._do() if self._chore.is_everyones else self._do_if_mine()
        except Unavailable as e:
            if self._was_available:
                log.warning("chore_unavailable", chore=self.name, reason=e.message)
            self._was_available = False
            return False
        if is_done and not self._was_available:
            log.info("chore_back", chore=self.name)
            self._was_available = True
        return is_done

    def _do_if_mine(self) -> bool:
        holder, began = uuid.uuid4().hex, self._clock()
        if not self._hold(holder, LEASE_SECONDS):
            return False
        try:
            self._do()
        except Unavailable:
            self._hold(holder, self.pause_seconds)
            raise
        self._hold(holder, self._chore.every_seconds - (self._clock() - began))
        return True

    def _do(self) -> bool:
        try:
            self._chore.do()
        except Unavailable:
            raise
        except Exception:
            # A bug in one chore must end neither the gateway nor its other chores.
            log.exception("chore_failed", chore=self.name)
        return True

    @redis_errors()
    def _hold(self, holder: str, seconds: float) -> bool:
        """Take the lease if it is free or the holder's own; it ends by itself."""
        milliseconds = max(1, round(seconds * 1000))
        return bool(self._lease(args=[f"wanserve:chore:{self.name}", holder, milliseconds]))
