"""The review desk: jobs that wait for a person's word before they may wait for a worker."""

import json
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from pydantic import Field
from redis import Redis
from rq.utils import now, utcformat

from service.errors import Conflict, ReviewNotFound
from service.jobs.connection import redis_errors
from service.jobs.execution import JobPayload
from service.jobs.lua import load_script
from service.jobs.record import ReviewState, Wire
from service.settings import Settings

_PENDING, _DECIDED = "wanserve:reviews", "wanserve:reviews-decided"
TIME_OUT = "review time-out"
"""Who decided what nobody looked at in time."""


class Decision(Wire):
    """One person's word."""

    id: str
    """Of the call: repeated after a lost reply it changes nothing."""

    approves: bool
    by: str
    """An API key's id, "local" where no key was needed, or TIME_OUT."""

    reason: str = ""
    at: float = 0.0
    """Unix seconds on Redis' clock."""


class Review(Wire):
    """Of one job, whose id it has."""

    id: str
    tenant: str
    category: str
    """What the filter saw, or "everything" where everything is looked at."""

    state: ReviewState
    created_at: float
    decided_at: float | None = None
    decisions: tuple[Decision, ...] = ()
    payload: JobPayload | None = Field(None, repr=False)
    """What is to be made; None once the job's record is gone."""

    video_ids: tuple[str, ...] = ()
    """That follow the job while it has not ended."""


@dataclass(frozen=True, slots=True)
class Backlog:
    num_pending: int
    oldest_seconds: float
    """How long the oldest waits; 0 without one."""


class Reviews:
    """Takes a client from connection.connect(), which the caller closes. Methods raise QueueUnavailable.

    tenant: whose reviews alone are meant; None for everybody's.
    """

    def __init__(self, redis: Redis, settings: Settings, *, clock: Callable[[], float] = time.time) -> None:
        self._redis = redis
        self._settings = settings
        self._clock = clock
        self._decide = load_script(redis, "decide")

    @redis_errors()
    def get(self, review_id: str, *, tenant: str | None = None) -> Review:
        """Raises ReviewNotFound."""
        found = self._read([review_id], tenant)
        if not found:
            raise ReviewNotFound(f"There is no review {review_id}.", param="id")
        return found[0]

    @redis_errors()
    def list(
        self,
        *,
        tenant: str | None = None,
        state: Literal["pending", "decided"] = "pending",
        after: str | None = None,
        limit: int = 20,
    ) -> tuple[tuple[Review, ...], bool]:
        """A page, and whether there are more: pending ones the oldest first, decided ones the latest first."""
        key = _PENDING if state == "pending" else _DECIDED
        everyone = cast("Sequence[str]", self._redis.zrange(key, 0, -1, desc=state == "decided"))
        start = 0 if after is None else next((i + 1 for i, name in enumerate(everyone) if name == after), len(everyone))
        found: list[Review] = []
        # In portions: of another tenant's there may be many.
        for begin in range(start, len(everyone), 100):
            found.extend(self._read(everyone[begin : begin + 100], tenant))
            if len(found) > limit:
                break
        return tuple(found[:limit]), len(found) > limit

    def approve(self, review_id: str, *, by: str, reason: str = "", tenant: str | None = None) -> Review:
        """With as many approvals as settings ask for the job waits for a worker. Raises ReviewNotFound, Conflict."""
        return self._do(review_id, Decision(id=uuid.uuid4().hex, approves=True, by=by, reason=reason), tenant)

    def reject(self, review_id: str, *, by: str, reason: str, tenant: str | None = None) -> Review:
        """Its videos end as failed with the code rejected_by_review, and the reason. Raises as approve()."""
        return self._do(review_id, Decision(id=uuid.uuid4().hex, approves=False, by=by, reason=reason), tenant)

    @redis_errors()
    def end_overdue(self, *, limit: int = 50) -> int:
        """Decide what nobody looked at in review_seconds, as settings say; returns how many."""
        latest = self._clock() - self._settings.review_seconds
        overdue = cast("Sequence[str]", self._redis.zrangebyscore(_PENDING, "-inf", latest, start=0, num=limit))
        approves = self._settings.review_timeout == "approve"
        for review_id in overdue:
            decision = Decision(
                id=uuid.uuid4().hex, approves=approves, by=TIME_OUT, reason="Nobody looked at it in time."
            )
            # One that was decided meanwhile stays as it is.
            self._answer(review_id, decision, None, needed=1)
        return len(overdue)

    @redis_errors()
    def backlog(self) -> Backlog:
        """O(1)."""
        oldest = cast("list[tuple[str, float]]", self._redis.zrange(_PENDING, 0, 0, withscores=True))
        waits = max(0.0, self._clock() - oldest[0][1]) if oldest else 0.0
        return Backlog(self._redis.zcard(_PENDING), waits)

    @redis_errors()
    def _do(self, review_id: str, decision: Decision, tenant: str | None) -> Review:
        match self._answer(review_id, decision, tenant, needed=self._settings.review_approvals):
            case "done":
                return self.get(review_id, tenant=tenant)
            case "decided":
                state = self.get(review_id, tenant=tenant).state
                raise Conflict(f"This review has been decided: it is {state}.", param="id")
            case "same_person":
                raise Conflict("You have approved this already: somebody else must, too.", param="id")
            case _:
                raise ReviewNotFound(f"There is no review {review_id}.", param="id")

    def _answer(self, review_id: str, decision: Decision, tenant: str | None, *, needed: int) -> str:
        because = f": {decision.reason}" if decision.reason else "."
        arguments: dict[str, Any] = {
            "job_id": review_id,
            "decision": decision.model_dump(exclude={"at"}),
            "needed": needed,
            "message": f"A reviewer rejected it{because}",
            "iso": utcformat(now()),
        }
        if tenant is not None:
            arguments["tenant"] = tenant
        return cast(str, self._decide(args=[json.dumps(arguments, ensure_ascii=False)]))

    def _read(self, ids: Sequence[str], tenant: str | None) -> Sequence[Review]:
        with self._redis.pipeline(transaction=False) as pipeline:
            for review_id in ids:
                pipeline.hgetall(f"wanserve:review:{review_id}")
                pipeline.hget(f"rq:job:{review_id}", "payload")
                pipeline.smembers(f"wanserve:job:{review_id}:videos")
            answers = pipeline.execute()
        rows = zip(ids, answers[::3], answers[1::3], answers[2::3], strict=True)
        return [
            _review(review_id, stored, payload, followers)
            for review_id, stored, payload, followers in rows
            if stored and tenant in (None, stored["tenant"])
        ]


def _review(review_id: str, stored: dict[str, str], payload: str | None, followers: set[str]) -> Review:
    return Review(
        id=review_id,
        tenant=stored["tenant"],
        category=stored["category"],
        state=cast(ReviewState, stored["state"]),
        created_at=float(stored["created_at"]),
        decided_at=float(stored["decided_at"]) if "decided_at" in stored else None,
        decisions=tuple(map(Decision.model_validate, json.loads(stored.get("decisions", "[]")))),
        payload=None if payload is None else JobPayload.model_validate_json(payload),
        video_ids=tuple(sorted(followers)),
    )
