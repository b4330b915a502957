"""Records of videos, model cards and live workers. Every method raises QueueUnavailable without Redis."""

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from pydantic import TypeAdapter
from redis import Redis
from rq.utils import now, utcformat

from service.errors import InvalidRequest, RecordUnreadable, VideoNotFound
from service.jobs.card import ModelCard
from service.jobs.connection import redis_errors
from service.jobs.execution import Outcome
from service.jobs.fleet import NO_FLEET, Fleet
from service.jobs.lua import load_script, write_anyway
from service.jobs.record import DEFAULT_TENANT, State, VideoError, VideoRecord, VideoRequest, WorkerInfo
from service.logs import get_logger

PROGRESS_CHANNEL = "wanserve:progress"
"""Pub/sub of record.ProgressMessage as JSON."""

_CARDS = "wanserve:cards"
_WORKERS = "wanserve:workers"
MAX_PAGE = 100

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list, in the order asked for."""

    records: tuple[VideoRecord, ...]
    has_more: bool


NOTHING_SENT: Mapping[str, VideoRequest] = {}


class VideoStore:
    """Takes a client from connection.connect(), which the caller closes."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._read = load_script(redis, "read")
        self._delete = load_script(redis, "delete")
        self._unlist = load_script(redis, "unlist")
        self._look = load_script(redis, "look")
        self._read_fleet = load_script(redis, "fleet")
        self._fleet: Fleet | None = None

    @redis_errors()
    def check(self) -> None:
        """Raises QueueUnavailable unless Redis answers."""
        self._redis.ping()

    @redis_errors()
    def get(self, video_id: str, *, tenant: str | None = None) -> VideoRecord:
        """tenant: whose it must be; None for anybody's. Raises VideoNotFound, RecordUnreadable."""
        [answer] = self._read(args=[video_id])
        return record_of(video_id, answer, tenant=tenant)

    @redis_errors()
    def find(self, video_ids: Sequence[str]) -> tuple[VideoRecord, ...]:
        """Those of the videos that are there and can be read, anybody's, in order and at one instant."""
        if not video_ids:
            return ()
        return tuple(_readable(dict(zip(video_ids, self._read(args=video_ids), strict=True))))

    def of_asset(self, asset_id: str) -> tuple[VideoRecord, ...]:
        """Videos that have this asset's files, anybody's, by creation time."""
        names = self._references(asset_id)
        videos = self.find([name for name in names if not name.startswith(("cache:", "review:"))])
        return tuple(sorted(videos, key=lambda video: (video.created_at, video.id)))

    @redis_errors()
    def has_files(self, asset_id: str) -> bool:
        """Whether a video, the cache or a review refers to the asset still."""
        return bool(self._redis.exists(f"wanserve:asset:{asset_id}"))

    @redis_errors()
    def _references(self, asset_id: str) -> set[str]:
        return cast(set[str], self._redis.smembers(f"wanserve:asset:{asset_id}:references"))

    @redis_errors()
    def preview(self, job_id: str) -> str | None:
        """The newest picture of a running job, WebP in base64."""
        return cast(str | None, self._redis.get(f"wanserve:preview:{job_id}"))

    @redis_errors()
    def look(self, video_id: str, *, tenant: str | None = None) -> tuple[VideoRecord, Fleet | None]:
        """As get(), in the same question with models and workers at that instant; of an ended video they may be old.

        Raises VideoNotFound, RecordUnreadable.
        """
        last = self._fleet
        answer, changed = self._look(args=[video_id, NO_FLEET if last is None else last.digest])
        fleet = last if changed is None else self.learn(changed)
        return record_of(video_id, answer, tenant=tenant), fleet

    @redis_errors()
    def list(
        self,
        *,
        tenant: str = DEFAULT_TENANT,
        after: str | None = None,
        limit: int = 20,
        order: Literal["asc", "desc"] = "desc",
    ) -> Page:
        """A tenant's, by creation time, without unreadable ones. after may have been deleted or expired within an hour.

        Raises InvalidRequest(param="after") for any other id that is not there.
        """
        limit = min(max(limit, 1), MAX_PAGE)
        first, last = ("-inf", "+inf") if order == "asc" else ("+inf", "-inf")
        if after is not None:
            first = f"({self._created_at(after, tenant)!r}"
        records: list[VideoRecord] = []
        # One more than asked tells whether there is another page.
        while len(records) <= limit:
            listed = self._listed(tenant, first, last, is_reversed=order == "desc", num=limit + 1)
            if not listed:
                break
            ids = [video_id for video_id, _ in listed]
            answers = dict(zip(ids, self._read(args=ids), strict=True))
            if expired := [video_id for video_id in ids if not answers[video_id]]:
                self._unlist(args=[tenant, *expired])
            records += _readable(answers)
            first = f"({listed[-1][1]!r}"
        return Page(records=tuple(records[:limit]), has_more=len(records) > limit)

    @redis_errors()
    def delete(self, video_id: str, *, tenant: str | None = None) -> None:
        """Cancel the video if it has not ended, then remove its record and, with the last reference, its files.

        The files become garbage, which a sweep takes out of storage. tenant: whose it must be; None for anybody's.
        Raises VideoNotFound.
        """
        if tenant is not None:
            self.get(video_id, tenant=tenant)
        # The client may send it again: the second time must answer as the first.
        call_id = uuid.uuid4().hex
        if self._delete(args=[video_id, call_id, utcformat(now())]) == "missing":
            raise VideoNotFound(f"There is no video {video_id}.", param="id")

    @redis_errors()
    def register_card(self, card: ModelCard) -> None:
        """The last card of a model persists when its workers are gone."""
        write_anyway(self._redis, ["HSET", _CARDS, card.id, card.model_dump_json()])

    @property
    def last_fleet(self) -> Fleet | None:
        """As this object saw it last; None before it looked."""
        return self._fleet

    @redis_errors()
    def fleet(self) -> Fleet:
        """Models and live workers, in one question."""
        return self.learn(self._read_fleet())

    def cards(self) -> tuple[ModelCard, ...]:
        """All cards ever registered, those of live workers first. Empty before the first worker."""
        return self.fleet().cards

    def card(self, name: str | None = None) -> ModelCard:
        """The card that answers to a name; without one the first. Raises NoModel, ModelNotFound."""
        return self.fleet().card(name)

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

    def live_workers(self) -> tuple[WorkerInfo, ...]:
        """Those whose report_alive has not run out."""
        return self.fleet().workers

    @redis_errors()
    def learn(self, answer: Sequence[Any]) -> Fleet:
        """What scripts/prelude/records.lua answers of models and workers. Forgets workers that are gone."""
        cards, workers, gone, digest = answer
        if gone:
            self._redis.srem(_WORKERS, *gone)
        self._fleet = Fleet.of(cards, workers, digest=digest)
        return self._fleet

    def _listed(
        self, tenant: str, first: str, last: str, *, is_reversed: bool, num: int
    ) -> Sequence[tuple[str, float]]:
        """Ids and creation times between two bounds of ZRANGE."""
        listed = self._redis.zrange(
            _videos_key(tenant), first, last, desc=is_reversed, byscore=True, withscores=True, offset=0, num=num
        )
        return cast(Sequence[tuple[str, float]], listed)

    def _created_at(self, video_id: str, tenant: str) -> float:
        """Its place in the list, which no two videos share; of a video that is gone too."""
        listed = self._redis.zscore(_videos_key(tenant), video_id)
        score = listed or self._redis.get(f"wanserve:unlisted:{tenant}:{video_id}")
        if score is None:
            raise InvalidRequest(f"after: there is no video {video_id}.", param="after")
        return float(score)


def record_of(
    video_id: str, answer: str | None, *, tenant: str | None = None, sent: Mapping[str, VideoRequest] = NOTHING_SENT
) -> VideoRecord:
    """The public record, from what scripts/prelude/records.lua answers.

    tenant: whose it must be; None for anybody's. sent: requests that were just written, by their JSON: the same text
    needs no second reading. Raises VideoNotFound, and RecordUnreadable for a record that was
    damaged, or written by another version.
    """
    if answer:
        hashed, job, place = json.loads(answer)
        video = _pairs(hashed)
        if tenant in (None, video.get("tenant", DEFAULT_TENANT)):
            # Lua has no empty place in a list: what is missing comes as false.
            return _readable_record(video_id, video, [text or None for text in job], place or None, sent)
    raise VideoNotFound(f"There is no video {video_id}.", param="id")


def _readable(answers: Mapping[str, str | None]) -> Iterator[VideoRecord]:
    """Of those that are there; one broken record must not hide the others."""
    for video_id, answer in answers.items():
        if answer:
            try:
                yield record_of(video_id, answer)
            except RecordUnreadable:
                log.warning("record_unreadable", video_id=video_id)


def _readable_record(
    video_id: str,
    video: dict[str, str],
    job: Sequence[str | None],
    place: tuple[int, str, int] | None,
    sent: Mapping[str, VideoRequest],
) -> VideoRecord:
    try:
        return _record(video_id, video, job, place, sent)
    # A field that is missing is a KeyError, all that pydantic refuses a ValueError.
    except (KeyError, ValueError) as e:
        raise RecordUnreadable(
            f"The record of {video_id} can't be read: it was damaged, or written by another version. Delete it and "
            "submit it again.",
            param="id",
        ) from e


def _videos_key(tenant: str) -> str:
    return f"wanserve:videos:{tenant}"


def _worker_key(name: str) -> str:
    return f"wanserve:worker:{name}"


def _pairs(flat: Sequence[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


_Details = TypeAdapter(dict[str, Any])


def _record(
    video_id: str,
    video: dict[str, str],
    job: Sequence[str | None],
    place: tuple[int, str, int] | None,
    sent: Mapping[str, VideoRequest],
) -> VideoRecord:
    """Put the public record together from what read.lua saw."""
    status, _origin, phase, stage, step, num_steps, percent, claimed_at, num_retries, worker, review = job
    common: dict[str, Any] = {
        "id": video_id,
        "job_id": video["job_id"],
        "request": sent.get(video["request"]) or VideoRequest.model_validate_json(video["request"]),
        "created_at": video["created_at"],
        "cached": video["kind"] == "cached",
        "tenant": video.get("tenant", DEFAULT_TENANT),
        "review": review,
        **_Details.validate_json(video["details"]),
    }
    if "state" in video:
        attempt = 0 if claimed_at is None else int(num_retries or 0) + 1
        return _ended_record(common, video, claimed_at=claimed_at, percent=percent, attempt=attempt)
    if status not in ("queued", "deferred", "started"):
        # An operator emptied the queue with RQ's own tools.
        error = VideoError(code="job_removed", message="The job was removed from the queue. Submit it again.")
        return VideoRecord(**common, state=State.FAILED, error=error)
    # A deferred job with a phase has its files already, and waits for a reviewer.
    is_started = status == "started" or (status == "deferred" and phase is not None)
    num_ahead, seconds_ahead, num_running = place or (None, None, None)
    return VideoRecord(
        **common,
        state=State(phase or "started") if is_started else State.QUEUED,
        started_at=claimed_at,
        percent=percent or 0,
        stage=stage,
        step=step or 0,
        num_steps=num_steps or 0,
        attempt=int(num_retries or 0) + is_started,
        queue_position=num_ahead,
        seconds_ahead=seconds_ahead,
        num_running=num_running,
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
        prompt_tokens=outcome.prompt_tokens,
        prompt_tokens_cut=outcome.prompt_tokens_cut,
    )
