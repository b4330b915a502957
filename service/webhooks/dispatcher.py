"""A gateway's threads for webhooks: one hands events on from the outbox, some make deliveries."""

import threading
import time

from service.errors import Unavailable
from service.logs import get_logger
from service.webhooks.deliveries import HAND_ON_LIMIT, Deliveries
from service.webhooks.dispatch import Dispatch

NUM_THREADS = 8
LOOK_SECONDS = 1.0
"""An event wakes the look at once; this bounds how late a repeated attempt, or a request to stop, is seen."""

IDLE_SECONDS = 30.0
"""Without being woken: only a guard."""

STOP_SECONDS = 2.0
"""So long attempts under way may still take; what they do not settle another gateway makes again."""

log = get_logger(__name__)


class Dispatcher:
    """Runs from start() to stop()."""

    def __init__(self, deliveries: Deliveries, dispatch: Dispatch) -> None:
        self._deliveries = deliveries
        self._dispatch = dispatch
        self._is_over = threading.Event()
        self._due = threading.Condition()
        self._was_available = True
        self._threads = [
            threading.Thread(target=self._hand_on, name="webhooks", daemon=True),
            *(threading.Thread(target=self._deliver, name=f"webhook-{i}", daemon=True) for i in range(NUM_THREADS)),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Returns after STOP_SECONDS at the latest."""
        self._is_over.set()
        with self._due:
            self._due.notify_all()
        deadline = time.monotonic() + STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _hand_on(self) -> None:
        while not self._is_over.is_set():
            try:
                self._look()
            except Unavailable as e:
                if self._was_available:
                    log.warning("webhooks_unavailable", reason=e.message)
                self._was_available = False
                self._is_over.wait(LOOK_SECONDS)
            else:
                if not self._was_available:
                    log.info("webhooks_back")
                self._was_available = True

    def _look(self) -> None:
        handed_on = self._deliveries.hand_on()
        for video_id in handed_on.untold:
            log.info("event_dropped", video_id=video_id, reason="The video was deleted before anybody was told.")
        if handed_on.is_any_due:
            with self._due:
                self._due.notify_all()
        if handed_on.num_events < HAND_ON_LIMIT:
            self._deliveries.wait_for_events(timeout_seconds=LOOK_SECONDS)

    def _deliver(self) -> None:
        while not self._is_over.is_set():
            try:
                is_any_due = self._dispatch.deliver_next()
            except Unavailable:
                # The other thread logs the outage, and wakes this one when it is over.
                is_any_due = False
            if not is_any_due:
                self._wait_until_due()

    def _wait_until_due(self) -> None:
        with self._due:
            if not self._is_over.is_set():
                self._due.wait(IDLE_SECONDS)
