"""Files: what clients upload for batches, and what batches leave. The bytes lie in storage, the record in Redis.

Every method raises QueueUnavailable without Redis, and StorageUnavailable where bytes move.
"""

import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Literal, cast

from redis import Redis

from service.batches.pages import Order, page_of
from service.errors import Conflict, InvalidRequest, ObjectNotFound
from service.jobs.connection import redis_errors
from service.jobs.garbage import Garbage
from service.jobs.lua import load_script
from service.jobs.record import Wire
from service.storage import Storage
from service.stored import readable, record_from

PACKAGE = "service.batches"
MAX_FILES = 10_000
"""Of a tenant that still uploads more."""

JSON_LINES = "application/jsonl"

Purpose = Literal["batch", "batch_output"]


class File(Wire):
    """As it lies in Redis, a hash."""

    id: str
    tenant: str
    filename: str
    purpose: Purpose
    bytes: int
    object_key: str
    created_at: float
    """Unix seconds on Redis' clock, as all stamps here."""

    expires_at: float
    """From then on it may be removed; not while a batch reads it."""


@dataclass(frozen=True, slots=True)
class Upload:
    """An object that no record names yet. Until one does it is garbage that is not due."""

    file_id: str
    object_key: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class FilePage:
    files: tuple[File, ...]
    has_more: bool


class Files:
    """Takes a client from connection.connect(), which the caller closes, as it does the storage."""

    def __init__(self, redis: Redis, storage: Storage) -> None:
        self._redis = redis
        self._storage = storage
        self._garbage = Garbage(redis)
        self._create = load_script(redis, "create_file", package=PACKAGE)
        self._delete = load_script(redis, "delete_file", package=PACKAGE)
        self._expire = load_script(redis, "expire_files", package=PACKAGE)

    def upload(self, content: IO[bytes]) -> Upload:
        """Put the bytes from the stream's place on into storage."""
        file_id = f"file_{uuid.uuid4().hex}"
        object_key = f"files/{file_id}"
        self._garbage.announce(object_key)
        stored = self._storage.put_stream(object_key, content, content_type=JSON_LINES)
        return Upload(file_id, object_key, stored.size_bytes)

    @redis_errors()
    def create(self, upload: Upload, *, tenant: str, filename: str, seconds: int) -> File:
        """Name what a client uploaded, for so long. Raises InvalidRequest when the tenant has MAX_FILES already."""
        fields = file_fields(upload, tenant=tenant, filename=filename, purpose="batch", seconds=seconds)
        if self._create(args=[json.dumps(fields, ensure_ascii=False), MAX_FILES]) == "full":
            raise InvalidRequest(f"There are {MAX_FILES} files already: delete some first.", param="file")
        return self.get(upload.file_id, tenant=tenant)

    @redis_errors()
    def get(self, file_id: str, *, tenant: str) -> File:
        """Raises ObjectNotFound, for another tenant's too."""
        fields = cast(Mapping[str, str], self._redis.hgetall(_key(file_id)))
        if fields.get("tenant") != tenant:
            raise _not_found(file_id)
        return record_from(File, fields, name=file_id)

    @redis_errors()
    def list(self, *, tenant: str, after: str | None, limit: int, order: Order) -> FilePage:
        """By creation time. Raises InvalidRequest for an unknown after; one deleted within the last hour is known."""
        ids, has_more = page_of(
            self._redis, f"wanserve:tenant:{tenant}:files", kind="file", after=after, limit=limit, order=order
        )
        with self._redis.pipeline(transaction=False) as pipeline:
            for file_id in ids:
                pipeline.hgetall(_key(file_id))
            return FilePage(tuple(readable(File, pipeline.execute())), has_more)

    @redis_errors()
    def delete(self, file_id: str, *, tenant: str) -> None:
        """Raises ObjectNotFound, and Conflict for one that a batch still reads."""
        # The client may send it again: the second time must answer as the first.
        match self._delete(args=[tenant, file_id, uuid.uuid4().hex]):
            case "missing":
                raise _not_found(file_id)
            case "in_use":
                raise Conflict("A batch still reads this file: cancel the batch or wait for its end.", param="id")

    def content(self, file: File) -> Iterator[bytes]:
        """Raises ObjectNotFound."""
        return self._storage.read(file.object_key)

    @redis_errors()
    def expire(self, *, limit: int = 100) -> None:
        """Remove files and ended batches whose time is over; the objects become garbage."""
        while cast(int, self._expire(args=[limit])) >= limit:
            pass


def file_fields(upload: Upload, *, tenant: str, filename: str, purpose: Purpose, seconds: int) -> dict[str, str | int]:
    """What scripts/prelude.lua makes a record of."""
    return {
        "id": upload.file_id,
        "object_key": upload.object_key,
        "bytes": upload.size_bytes,
        "tenant": tenant,
        "filename": filename,
        "purpose": purpose,
        "seconds": seconds,
    }


def _key(file_id: str) -> str:
    return f"wanserve:file:{file_id}"


def _not_found(file_id: str) -> ObjectNotFound:
    return ObjectNotFound(f"There is no file {file_id}.", param="id")
