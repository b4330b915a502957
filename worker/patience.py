"""Repeating what failed because a server does not answer."""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from model.errors import Cancelled
from service.errors import Unavailable
from service.jobs.execution import Signal
from service.logs import get_logger
from worker.held import HeldJob
from worker.shutdown import Shutdown

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 3.0

log = get_logger(__name__)
T = TypeVar("T")


def insist(action: Callable[[], T], *, may_go_on: Callable[[], bool], name: str) -> T:
    """The action's result, however often it takes; pauses grow up to three seconds.

    Raises the last Unavailable once may_go_on() answers False. name: for the log, once an outage.
    """
    for attempt, pause in enumerate(_pauses()):
        try:
            result = action()
        except Unavailable as e:
            if attempt == 0:
                log.warning("server_unavailable", waiting=name, reason=e.message)
            if not may_go_on():
                raise
            _sleep(pause, may_go_on)
        else:
            if attempt:
                log.info("server_back", waiting=name, attempts=attempt + 1)
            return result
    raise AssertionError("pauses never end")


def insist_for(held: HeldJob, action: Callable[[], T], *, shutdown: Shutdown, name: str) -> T:
    """The same for a job, for as long as it is wanted and a shutdown can wait. Raises Cancelled then."""

    def may_go_on() -> bool:
        held.touch()
        return held.signal is Signal.OK and shutdown.seconds_left > 1

    try:
        return insist(action, may_go_on=may_go_on, name=name)
    except Unavailable as e:
        raise Cancelled from e


def _pauses() -> Iterator[float]:
    for attempt in itertools.count():
        yield min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(attempt, 10))


def _sleep(seconds: float, may_go_on: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while may_go_on() and (left := end - time.monotonic()) > 0:
        time.sleep(min(0.1, left))
