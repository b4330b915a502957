"""The review desk: jobs that a person looks at, before they may wait for a worker or before anybody gets the files."""

import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from pydantic import Field
from redis import Redis
from rq.utils import now, utcformat

from service.errors import Conflict, InvalidRequest, ReviewNotFound
from service.jobs.cache import cache_limits
from service.jobs.connection import redis_errors
from service.jobs.execution import JobPayload, Outcome
from service.jobs.lua import load_script
from service.jobs.record import Asset, ReviewStage, ReviewState, Wire
from service.settings import Settings
from service.stored import check_version

_PENDING, _DECIDED = "wanserve:reviews", "wanserve:reviews-decided"
TIME_OUT = "review time-out"
"""Who decided what nobody looked at in time."""

_PORTION = 100
"""Reviews read at once after the first page."""


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
    """Of one job. A job may have one of each stage, one after the other."""

    id: str
    job_id: str
    stage: ReviewStage
    tenant: str
    category: str
    """What the filter or the frame check saw, or "everything" where everything is looked at."""

    score: float | None = None
    """The frame check's, where that is why."""

    state: ReviewState
    created_at: float
    decided_at: float | None = None
    decisions: tuple[Decision, ...] = ()
    payload: JobPayload | None = Field(None, repr=False)
    """What is to be made; None once the job's record is gone."""

    video_ids: tuple[str, ...] = ()
    """That follow the job while it has not ended."""

    asset: Asset | None = None
    """The files to look at, while they are held."""


@dataclass(frozen=True, slots=True)
class Backlog:
    num_pending: int
    oldest_seconds: float
    """How long the oldest waits; 0 without one."""


class Reviews:
    """Takes a client from connection.connect(), which the caller closes. Methods raise QueueUnavailable.

    tenant: whose reviews alone are meant; None for everybody's.
    """

    def __init__(
        self,
        redis: Redis,
        settings: Settings,
        *,
        on_decision: Callable[[str], object] = lambda decision: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """on_decision: told approved, rejected, approved_by_timeout or rejected_by_timeout."""
        self._redis = redis
        self._settings = settings
        self._on_decision = on_decision
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
        stage: ReviewStage | None = None,
        category: str | None = None,
        after: str | None = None,
        limit: int = 20,
    ) -> tuple[tuple[Review, ...], bool]:
        """A page, and whether there are more: pending ones the oldest first, decided ones the latest first.

        after: may have been decided since. Raises InvalidRequest for one that is not there.
        """
        found: list[Review] = []
        # In portions: a filter may leave out many.
        for ids in self._portions(_PENDING if state == "pending" else _DECIDED, tenant, after, limit + 1):
            chosen = self._read(ids, tenant)
            found.extend(each for each in chosen if stage in (None, each.stage) and category in (None, each.category))
            if len(found) > limit:
                break
        return tuple(found[:limit]), len(found) > limit

    def approve(self, review_id: str, *, by: str, reason: str = "", tenant: str | None = None) -> Review:
        """With as many approvals as settings ask for the job waits for a worker, or is completed.

        Raises ReviewNotFound, Conflict.
        """
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
            if self._answer(review_id, decision, None, needed=1) == "done":
                self._on_decision("approved_by_timeout" if approves else "rejected_by_timeout")
        return len(overdue)

    @redis_errors()
    def backlog(self) -> Backlog:
        """O(1)."""
        oldest = cast("list[tuple[str, float]]", self._redis.zrange(_PENDING, 0, 0, withscores=True))
        waits = max(0.0, self._clock() - oldest[0][1]) if oldest else 0.0
        return Backlog(self._redis.zcard(_PENDING), waits)

    def _portions(self, key: str, tenant: str | None, after: str | None, size: int) -> Iterator[Sequence[str]]:
        """Ids by time, from the one after `after` on. No two reviews have the same microsecond."""
        is_decided = key == _DECIDED
        start, end = ("+inf", "-inf") if is_decided else ("-inf", "+inf")
        if after is not None:
            start = f"({self._time_of(after, 'decided_at' if is_decided else 'created_at', tenant)}"
        desk = key if tenant is None else f"{key}:{tenant}"
        while True:
            listed = cast(
                "list[tuple[str, float]]",
                self._redis.zrange(
                    desk, start, end, desc=is_decided, byscore=True, withscores=True, offset=0, num=size
                ),
            )
            if not listed:
                return
            yield [review_id for review_id, _ in listed]
            start, size = f"({listed[-1][1]!r}", _PORTION

    def _time_of(self, review_id: str, field: str, tenant: str | None) -> str:
        stamp, whose = self._redis.hmget(f"wanserve:review:{review_id}", field, "tenant")
        if stamp is None or tenant not in (None, whose):
            raise InvalidRequest(f"after: there is no such review {review_id}.", param="after")
        return cast(str, stamp)

    @redis_errors()
    def _do(self, review_id: str, decision: Decision, tenant: str | None) -> Review:
        match self._answer(review_id, decision, tenant, needed=self._settings.review_approvals):
            case "done":
                self._on_decision("approved" if decision.approves else "rejected")
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
            "review_id": review_id,
            "cache": cache_limits(self._settings),
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
            stored = dict(zip(ids, pipeline.execute(), strict=True))
        seen = {id_: fields for id_, fields in stored.items() if fields and tenant in (None, fields["tenant"])}
        with self._redis.pipeline(transaction=False) as pipeline:
            for fields in seen.values():
                pipeline.hmget(f"rq:job:{fields['job_id']}", "payload", "held")
                pipeline.smembers(f"wanserve:job:{fields['job_id']}:videos")
            answers = pipeline.execute()
        rows = zip(seen.items(), answers[::2], answers[1::2], strict=True)
        return [_review(id_, fields, job, followers) for (id_, fields), job, followers in rows]


def _review(review_id: str, stored: dict[str, str], job: Sequence[str | None], followers: set[str]) -> Review:
    check_version(stored, name=review_id)
    payload, held = job
    return Review(
        id=review_id,
        job_id=stored["job_id"],
        stage=cast(ReviewStage, stored["stage"]),
        tenant=stored["tenant"],
        category=stored["category"],
        score=float(stored["score"]) if "score" in stored else None,
        state=cast(ReviewState, stored["state"]),
        created_at=float(stored["created_at"]),
        decided_at=float(stored["decided_at"]) if "decided_at" in stored else None,
        decisions=tuple(map(Decision.model_validate, json.loads(stored.get("decisions", "[]")))),
        payload=None if payload is None else JobPayload.model_validate_json(payload),
        video_ids=tuple(sorted(followers)),
        asset=None if held is None or "asset_id" not in stored else Outcome.model_validate_json(held).asset,
    )
