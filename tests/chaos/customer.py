"""A client that keeps to the contract: what was not answered, or answered 503, is asked again with the same key."""

import threading
from dataclasses import dataclass
from typing import Any, Literal

import httpx

from tests.chaos.orders import Order

FIRST_PAUSE_SECONDS = 0.5
"""After a connection that failed; Retry-After says how long after a 503."""

LastStatus = Literal["completed", "failed", "cancelled", "deleted", "open"]


class Abandoned(Exception):
    """Nobody waits any longer for what the customer asked for."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the service told one customer."""

    order: Order
    video_ids: tuple[str, ...]
    """One answer for each time the same request was sent with the same key."""

    last_status: LastStatus
    num_repeats: int
    """Requests that had to be sent again."""


class Customer:
    """Takes an open client. over: set when nobody should go on asking."""

    def __init__(self, client: httpx.Client, order: Order, *, over: threading.Event) -> None:
        self._client = client
        self._order = order
        self._over = over
        self._video_ids: list[str] = []
        self._num_repeats = 0

    def live(self) -> Receipt:
        """From the order to its end, through whatever happens; "open" when it is abandoned before."""
        try:
            last_status = self._live()
        except Abandoned:
            last_status = "open"
        return Receipt(self._order, tuple(self._video_ids), last_status, self._num_repeats)

    def _live(self) -> LastStatus:
        self._post()
        self._post()
        video_id = self._video_ids[0]
        match self._order.intent:
            case "keep":
                return self._wait_for_end(video_id)
            case "cancel":
                self._wait_for_moment(video_id)
                return self._cancel(video_id)
            case "delete":
                self._wait_for_moment(video_id)
                return self._delete(video_id)

    def _post(self) -> None:
        headers = {"Idempotency-Key": self._order.key}
        reply = self._insist("POST", "/v1/videos", json=self._order.body, headers=headers)
        self._video_ids.append(reply.raise_for_status().json()["id"])

    def _wait_for_moment(self, video_id: str) -> None:
        match self._order.moment:
            case "at once":
                return
            case "in progress":
                self._wait(video_id, until=("in_progress", "completed", "failed"))
            case "completed":
                self._wait_for_end(video_id)

    def _wait_for_end(self, video_id: str) -> LastStatus:
        return "completed" if self._wait(video_id, until=("completed", "failed")) == "completed" else "failed"

    def _wait(self, video_id: str, *, until: tuple[str, ...]) -> str:
        while True:
            reply = self._insist("GET", f"/v1/videos/{video_id}").raise_for_status()
            status = str(reply.json()["status"])
            if status in until:
                return status
            self._pause(int(reply.headers["openai-poll-after-ms"]) / 1000)

    def _cancel(self, video_id: str) -> LastStatus:
        reply = self._insist("POST", f"/v1/videos/{video_id}/cancel")
        if reply.status_code == httpx.codes.CONFLICT:
            return self._wait_for_end(video_id)
        reply.raise_for_status()
        return "cancelled"

    def _delete(self, video_id: str) -> LastStatus:
        repeats = self._num_repeats
        reply = self._insist("DELETE", f"/v1/videos/{video_id}")
        was_done_before = reply.status_code == httpx.codes.NOT_FOUND and self._num_repeats > repeats
        if not was_done_before:
            reply.raise_for_status()
        return "deleted"

    def _insist(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The first answer that is not "later"."""
        while True:
            try:
                reply = self._client.request(method, path, **options)
            except httpx.TransportError:
                self._pause(FIRST_PAUSE_SECONDS)
            else:
                if reply.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                    return reply
                self._pause(int(reply.headers["Retry-After"]))
            self._num_repeats += 1

    def _pause(self, seconds: float) -> None:
        if self._over.wait(seconds):
            raise Abandoned(self._order.key)
