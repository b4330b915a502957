"""One message to one receiver: the event's text, signed, sent, and what came of it."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from service.errors import ReceiverUnreachable
from service.jobs.record import EventType, VideoRecord
from service.webhooks.deliveries import Attempt
from service.webhooks.outbound import Outbound
from service.webhooks.schedule import parse_retry_after
from service.webhooks.sign import signed_headers

ShowVideo = Callable[[VideoRecord], Mapping[str, Any]]
"""The video as its owner sees it, with links that work now."""

GONE = 410
"""The receiver's wish to hear nothing more."""


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent, and where to."""

    url: str
    secrets: Sequence[str]
    event_id: str
    type: EventType
    created_at: float
    """Unix seconds, of the event."""

    data: Mapping[str, Any]
    """The whole video."""

    @property
    def body(self) -> str:
        event = {
            "id": self.event_id,
            "object": "event",
            "created_at": int(self.created_at),
            "type": self.type,
            "data": self.data,
        }
        return json.dumps(event, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of an attempt."""

    attempt: Attempt
    retry_after_seconds: float | None = None

    @property
    def is_success(self) -> bool:
        return self.attempt.status is not None and 200 <= self.attempt.status < 300

    @property
    def is_unwanted(self) -> bool:
        return self.attempt.status == GONE


class Messenger:
    """clock: Unix seconds, for stamps; stopwatch: for durations."""

    def __init__(
        self,
        outbound: Outbound,
        *,
        clock: Callable[[], float] = time.time,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        self._outbound = outbound
        self._clock = clock
        self._stopwatch = stopwatch
        self._user_agent = f"wanserve/{metadata.version('wanserve')}"

    def send(self, message: Message) -> Sent:
        """A failure is an answer too."""
        now, started = self._clock(), self._stopwatch()
        body = message.body
        headers = {
            "Content-Type": "application/json",
            "User-Agent": self._user_agent,
            **signed_headers(message.event_id, body, secrets=message.secrets, now=now),
        }
        try:
            reply = self._outbound.post(message.url, headers=headers, body=body.encode())
        except ReceiverUnreachable as e:
            return Sent(Attempt(at=now, duration_seconds=self._seconds_since(started), error=e.message))
        error = None if 200 <= reply.status < 300 else f"The receiver answered {reply.status}."
        attempt = Attempt(at=now, duration_seconds=self._seconds_since(started), status=reply.status, error=error)
        return Sent(attempt, retry_after_seconds=parse_retry_after(reply.retry_after, now=now))

    def _seconds_since(self, started: float) -> float:
        return round(self._stopwatch() - started, 3)
