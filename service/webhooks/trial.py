"""Test events: sent while the caller waits, few at a time, so that the gateway keeps its threads."""

import threading
import uuid
from collections.abc import Mapping
from typing import Any

from service.errors import ReceiverUnreachable, Unavailable
from service.jobs.record import EventType
from service.webhooks.endpoints import Endpoint
from service.webhooks.messenger import Message, Messenger

MAX_AT_ONCE = 4


class Trial:
    """Leaves no trace: no delivery, no repeated attempt, nothing for the breaker."""

    def __init__(self, messenger: Messenger) -> None:
        self._messenger = messenger
        self._places = threading.BoundedSemaphore(MAX_AT_ONCE)

    def send(self, endpoint: Endpoint, *, event_type: EventType, video: Mapping[str, Any], now: float) -> int:
        """The status of the receiver's reply. Raises ReceiverUnreachable without one, Unavailable while others run."""
        if not self._places.acquire(blocking=False):
            raise Unavailable("Other test events are on their way. Try again shortly.")
        try:
            sent = self._messenger.send(
                Message(
                    url=endpoint.url,
                    secrets=endpoint.secrets(now=now),
                    event_id=f"evt_test_{uuid.uuid4().hex}",
                    type=event_type,
                    created_at=now,
                    data=video,
                )
            )
        finally:
            self._places.release()
        if sent.attempt.status is None:
            raise ReceiverUnreachable(sent.attempt.error or "The receiver did not reply.")
        return sent.attempt.status
