"""Records of videos, model cards and live workers. Every method raises QueueUnavailable without Redis."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from pydantic import TypeAdapter
from redis import Redis
from rq.utils import now, utcformat

from service.errors import InvalidRequest, ModelNotFound, NoModel, VideoNotFound
from service.jobs.card import ModelCard
from service.jobs.connection import redis_errors
from service.jobs.lua import load_script, write_anyway
from service.jobs.record import Asset, Outcome, State, VideoError, VideoRecord, VideoRequest, WorkerInfo

PROGRESS_CHANNEL = "wanserve:progress"
"""Pub/sub of record.ProgressMessage as JSON."""

_VIDEOS = "wanserve:videos"
_CARDS = "wanserve:cards"
_WORKERS = "wanserve:workers"
MAX_PAGE = 100


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list, in the order asked for."""

    records: tuple[VideoRecord, ...]
    has_more: bool


class VideoStore:
    """Takes a client from connection.connect(), which the caller closes."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._read = load_script(redis, "read")
        self._delete = load_script(redis, "delete")
        self._unlist = load_script(redis, "unlist")

    @redis_errors()
    def check(self) -> None:
        """Raises QueueUnavailable unless Redis answers."""
        self._redis.ping()

    @redis_errors()
    def get(self, video_id: str) -> VideoRecord:
        """Raises VideoNotFound."""
        records = self._records([video_id])
        if not records:
            raise VideoNotFound(f"There is no video {video_id}.", param="id")
        return records[0]

    @redis_errors()
    def list(self, *, after: str | None = None, limit: int = 20, order: Literal["asc", "desc"] = "desc") -> Page:
        """By creation time. after may have been deleted or expired within the last hour.

        Raises InvalidRequest(param="after") for any other id that is not there.
        """
        limit = min(max(limit, 1), MAX_PAGE)
        first, last = ("-inf", "+inf") if order == "asc" else ("+inf", "-inf")
        if after is not None:
            first = f"({self._created_at(after)!r}"
        records: list[VideoRecord] = []
        # One more than asked tells whether there is another page.
        while len(records) <= limit:
            listed = self._listed(first, last, is_reversed=order == "desc", num=limit + 1)
            if not listed:
                break
            ids = [video_id for video_id, _ in listed]
            found = self._records(ids)
            expired = set(ids) - {record.id for record in found}
            if expired:
                self._unlist(args=sorted(expired))
            records += found
            first = f"({listed[-1][1]!r}"
        return Page(records=tuple(records[:limit]), has_more=len(records) > limit)

    @redis_errors()
    def delete(self, video_id: str) -> Asset | None:
        """Cancel the video if it has not ended, then remove its record.

        Returns the asset whose files the caller removes from storage, or None while something else refers
        to it. Raises VideoNotFound.
        """
        # The client may send it again: the second time must answer as the first.
        call_id = uuid.uuid4().hex
        match self._delete(args=[video_id, call_id, utcformat(now())]):
            case ["free", outcome]:
                return Outcome.model_validate_json(outcome).asset
            case ["kept"]:
                return None
            case _:
                raise VideoNotFound(f"There is no video {video_id}.", param="id")

    @redis_errors()
    def register_card(self, card: ModelCard) -> None:
        """The last card of a model persists when its workers are gone."""
        write_anyway(self._redis, ["HSET", _CARDS, card.id, card.model_dump_json()])

    @redis_errors()
    def cards(self) -> tuple[ModelCard, ...]:
        """All cards ever registered, those of live workers first. Empty before the first worker."""
        cards = [ModelCard.model_validate_json(text) for text in self._redis.hvals(_CARDS)]
        live = {worker.model for worker in self.live_workers()}
        return tuple(sorted(cards, key=lambda card: (card.id not in live, card.id)))

    def card(self, name: str | None = None) -> ModelCard:
        """The card that answers to a name; without one the first. Raises NoModel, ModelNotFound."""
        cards = self.cards()
        if not cards:
            raise NoModel("No worker has registered a model yet. Try again when one is up.")
        for card in cards:
            if name is None or card.answers_to(name):
                return card
        known = ", ".join(card.id for card in cards)
        raise ModelNotFound(f"The model {name!r} does not exist here; known are: {known}.", param="model")

    @redis_errors()
    def report_alive(self, worker: WorkerInfo, *, ttl_seconds: float) -> None:
        """A warm worker says that it lives."""
        ttl_milliseconds = round(ttl_seconds * 1000)
        write_anyway(
            self._redis,
            ["SADD", _WORKERS, worker.name],
            ["SET", _worker_key(worker.name), worker.model_dump_json(), "PX", ttl_milliseconds],
        )

    @redis_errors()
    def report_gone(self, name: str) -> None:
        """A worker leaves."""
        with self._redis.pipeline() as pipeline:
            pipeline.srem(_WORKERS, name)
            pipeline.delete(_worker_key(name))
            pipeline.execute()

    @redis_errors()
    def live_workers(self) -> tuple[WorkerInfo, ...]:
        """Those whose report_alive has not run out."""
        names = sorted(cast(set[str], self._redis.smembers(_WORKERS)))
        if not names:
            return ()
        infos = self._redis.mget([_worker_key(name) for name in names])
        gone = [name for name, info in zip(names, infos, strict=True) if info is None]
        if gone:
            self._redis.srem(_WORKERS, *gone)
        return tuple(WorkerInfo.model_validate_json(info) for info in infos if info is not None)

    def _records(self, video_ids: Sequence[str]) -> tuple[VideoRecord, ...]:
        """Those of the ids that are there, in order."""
        answers = self._read(args=video_ids)
        return tuple(
            _record(video_id, _pairs(video), job, position)
            for video_id, (video, job, position) in zip(video_ids, answers, strict=True)
            if video
        )

    def _listed(self, first: str, last: str, *, is_reversed: bool, num: int) -> Sequence[tuple[str, float]]:
        """Ids and creation times between two bounds of ZRANGE."""
        listed = self._redis.zrange(
            _VIDEOS, first, last, desc=is_reversed, byscore=True, withscores=True, offset=0, num=num
        )
        return cast(Sequence[tuple[str, float]], listed)

    def _created_at(self, video_id: str) -> float:
        """Its place in the list, which no two videos share; of a video that is gone too."""
        score = self._redis.zscore(_VIDEOS, video_id) or self._redis.get(f"wanserve:unlisted:{video_id}")
        if score is None:
            raise InvalidRequest(f"after: there is no video {video_id}.", param="after")
        return float(score)


def _worker_key(name: str) -> str:
    return f"wanserve:worker:{name}"


def _pairs(flat: Sequence[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


_Details = TypeAdapter(dict[str, Any])


def _record(video_id: str, video: dict[str, str], job: Sequence[str | None], position: int | None) -> VideoRecord:
    """Put the public record together from what read.lua saw."""
    status, _origin, phase, stage, step, num_steps, percent, claimed_at, num_retries, worker = job
    common: dict[str, Any] = {
        "id": video_id,
        "job_id": video["job_id"],
        "request": VideoRequest.model_validate_json(video["request"]),
        "created_at": video["created_at"],
        "cached": video["kind"] == "cached",
        **_Details.validate_json(video["details"]),
    }
    if "state" in video:
        attempt = 0 if claimed_at is None else int(num_retries or 0) + 1
        return _ended_record(common, video, claimed_at=claimed_at, percent=percent, attempt=attempt)
    if status not in ("queued", "started"):
        # An operator emptied the queue with RQ's own tools.
        error = VideoError(code="job_removed", message="The job was removed from the queue. Submit it again.")
        return VideoRecord(**common, state=State.FAILED, error=error)
    is_started = status == "started"
    return VideoRecord(
        **common,
        state=State(phase or "started") if is_started else State.QUEUED,
        started_at=claimed_at,
        percent=percent or 0,
        stage=stage,
        step=step or 0,
        num_steps=num_steps or 0,
        attempt=int(num_retries or 0) + is_started,
        queue_position=position,
        worker=worker or None,
    )


def _ended_record(
    common: dict[str, Any],
    video: dict[str, str],
    *,
    claimed_at: str | None,
    percent: str | None,
    attempt: int,
) -> VideoRecord:
    outcome = Outcome.model_validate_json(video["outcome"])
    return VideoRecord(
        **common,
        state=outcome.state,
        started_at=None if common["cached"] else claimed_at,
        attempt=0 if common["cached"] else attempt,
        finished_at=video["finished_at"],
        expires_at=video["expires_at"],
        percent=100 if outcome.state is State.COMPLETED else percent or 0,
        asset=outcome.asset,
        error=outcome.error,
        stage_durations=outcome.stage_durations,
        inference_time_seconds=outcome.inference_time_seconds,
        peak_memory_mb=outcome.peak_memory_mb,
        worker=outcome.worker,
    )
