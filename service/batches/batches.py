"""Batches in Redis: where each stands, so that its feeder may die anywhere. Every method raises QueueUnavailable."""

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from pydantic import BaseModel
from redis import Redis

from service.batches.batch import Batch, BatchError, BatchStatus, Refusal
from service.batches.files import PACKAGE
from service.batches.lines import Line
from service.batches.pages import Order, page_of
from service.errors import BatchNotFound, Conflict, InvalidRequest, ObjectNotFound, TenantQueueFull
from service.jobs.connection import redis_errors
from service.jobs.lua import load_script
from service.stored import readable, record_from

MAX_ACTIVE = 100
"""Batches of a tenant that have not ended."""

_ACTIVE = "wanserve:batches:active"


@dataclass(frozen=True, slots=True)
class BatchPage:
    batches: tuple[Batch, ...]
    has_more: bool


class Batches:
    """Takes a client from connection.connect(), which the caller closes."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._create = load_script(redis, "create_batch", package=PACKAGE)
        self._cancel = load_script(redis, "cancel_batch", package=PACKAGE)
        self._take_turn = load_script(redis, "take_turn", package=PACKAGE)
        self._move = load_script(redis, "move", package=PACKAGE)
        self._note = load_script(redis, "note", package=PACKAGE)
        self._settle = load_script(redis, "settle", package=PACKAGE)
        self._finish = load_script(redis, "finish_batch", package=PACKAGE)

    @redis_errors()
    def create(
        self,
        *,
        tenant: str,
        input_file_id: str,
        completion_window: str,
        window_seconds: int,
        metadata: Mapping[str, str],
        keep_seconds: int,
    ) -> Batch:
        """Raises ObjectNotFound and InvalidRequest for the file, TenantQueueFull for one batch too many."""
        batch_id = f"batch_{uuid.uuid4().hex}"
        limits = [MAX_ACTIVE, window_seconds, keep_seconds]
        texts = ["completion_window", completion_window, "metadata", json.dumps(metadata)]
        match self._create(args=[tenant, batch_id, input_file_id, *limits, *texts]):
            case "no_file":
                raise ObjectNotFound(f"There is no file {input_file_id}.", param="input_file_id")
            case "other_purpose":
                raise InvalidRequest("This file is not a batch's input: upload one.", param="input_file_id")
            case "full":
                raise TenantQueueFull(f"{MAX_ACTIVE} batches of yours are at work already.", retry_after_seconds=60)
        return self.get(batch_id, tenant=tenant)

    @redis_errors()
    def get(self, batch_id: str, *, tenant: str) -> Batch:
        """Raises BatchNotFound, for another tenant's too."""
        fields = cast(Mapping[str, str], self._redis.hgetall(_key(batch_id)))
        if fields.get("tenant") != tenant:
            raise _not_found(batch_id)
        return record_from(Batch, fields, name=batch_id)

    @redis_errors()
    def list(self, *, tenant: str, after: str | None, limit: int, order: Order = "desc") -> BatchPage:
        """By creation time. Raises InvalidRequest for an unknown after; one that expired within the hour is known."""
        ids, has_more = page_of(
            self._redis, f"wanserve:tenant:{tenant}:batches", kind="batch", after=after, limit=limit, order=order
        )
        with self._redis.pipeline(transaction=False) as pipeline:
            for batch_id in ids:
                pipeline.hgetall(_key(batch_id))
            return BatchPage(
                tuple(readable(Batch, pipeline.execute())),
                has_more,
            )

    @redis_errors()
    def cancel(self, batch_id: str, *, tenant: str) -> Batch:
        """Cancelling twice is fine. Raises BatchNotFound, and Conflict for one that has ended otherwise."""
        match self._cancel(args=[tenant, batch_id]):
            case "ok":
                return self.get(batch_id, tenant=tenant)
            case "missing":
                raise _not_found(batch_id)
            case status:
                raise Conflict(f"It is too late to cancel the batch: it is {status}.", param="id")

    @redis_errors()
    def active(self) -> Sequence[str]:
        """Ids of those that have not ended, the one whose last turn is longest ago first."""
        return cast(Sequence[str], self._redis.zrange(_ACTIVE, 0, -1))

    @redis_errors()
    def take_turn(self, batch_id: str) -> Batch | None:
        """The batch, now the last in line; None when it has ended."""
        flat = self._take_turn(args=[batch_id])
        return record_from(Batch, dict(zip(flat[::2], flat[1::2], strict=True)), name=batch_id) if flat else None

    @redis_errors()
    def begin(self, batch: Batch, *, total: int) -> None:
        """Its lines are counted."""
        self._move(args=[batch.id, batch.status, BatchStatus.IN_PROGRESS, "total", total])

    @redis_errors()
    def fail(self, batch: Batch, error: BatchError) -> None:
        """The last of it."""
        self._move(args=[batch.id, batch.status, BatchStatus.FAILED, "errors", _as_json([error])])

    @redis_errors()
    def finalize(self, batch: Batch, *, ends_as: Literal["completed", "expired"]) -> None:
        """All of its requests have ended, or are being ended."""
        self._move(args=[batch.id, batch.status, BatchStatus.FINALIZING, "ends_as", ends_as])

    @redis_errors()
    def number_of(self, batch_id: str, custom_id: str) -> int | None:
        """Of the request that took the name first."""
        number = self._redis.hget(f"{_key(batch_id)}:names", _digest(custom_id))
        return None if number is None else int(cast(str, number))

    @redis_errors()
    def note(
        self, batch_id: str, line: Line, *, custom_id: str | None = None, refusal: Refusal | None = None
    ) -> int | None:
        """A request was submitted or, with a refusal, was not: the next one is due.

        custom_id: a name that is now taken. Gives how many requests wait or run now; None when this one was not the
        batch's next, or the batch takes no more.
        """
        name = "" if custom_id is None else _digest(custom_id)
        reason = "" if refusal is None else refusal.model_dump_json(exclude_none=True)
        return cast(int | None, self._note(args=[batch_id, line.number, line.end, name, reason]))

    @redis_errors()
    def running(self, batch_id: str) -> Sequence[int]:
        """Numbers of the requests that wait or run, in order."""
        return sorted(int(number) for number in cast(set[str], self._redis.smembers(f"{_key(batch_id)}:running")))

    @redis_errors()
    def settle(self, batch_id: str, *, completed: Sequence[int], failed: Sequence[int]) -> None:
        """Requests whose videos have ended; each counts once."""
        pairs = [word for number in completed for word in (number, "completed")]
        pairs += [word for number in failed for word in (number, "failed")]
        if pairs:
            self._settle(args=[batch_id, *pairs])

    @redis_errors()
    def refusals(self, batch_id: str, numbers: Sequence[int]) -> dict[int, Refusal]:
        """Of those among the requests that were refused."""
        texts = cast(Sequence[str | None], self._redis.hmget(f"{_key(batch_id)}:refused", [str(n) for n in numbers]))
        return {n: Refusal.model_validate_json(text) for n, text in zip(numbers, texts, strict=True) if text}

    @redis_errors()
    def finish(
        self,
        batch: Batch,
        *,
        status: BatchStatus,
        completed: int,
        failed: int,
        files: Mapping[str, Mapping[str, str | int]],
    ) -> bool:
        """The last of it. files: from file_fields(), by field of the batch. False when another one was first."""
        made = [{"field": field, "file": file} for field, file in files.items()]
        return bool(self._finish(args=[batch.id, batch.status, status, completed, failed, json.dumps(made)]))


def _as_json(errors: Sequence[BaseModel]) -> str:
    return json.dumps([error.model_dump(exclude_none=True) for error in errors], ensure_ascii=False)


def _digest(custom_id: str) -> str:
    return hashlib.sha256(custom_id.encode()).hexdigest()[:32]


def _key(batch_id: str) -> str:
    return f"wanserve:batch:{batch_id}"


def _not_found(batch_id: str) -> BatchNotFound:
    return BatchNotFound(f"There is no batch {batch_id}.", param="id")
