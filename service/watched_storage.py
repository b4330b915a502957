"""An object store whose calls are counted."""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from service.errors import ObjectNotFound, StorageUnavailable
from service.metrics import StorageMetrics
from service.storage import Storage, StoredObject


class WatchedStorage:
    """As the storage behind it."""

    def __init__(self, storage: Storage, metrics: StorageMetrics) -> None:
        self._storage = storage
        self._metrics = metrics

    def ensure_bucket(self) -> None:
        self._storage.ensure_bucket()

    def check(self) -> None:
        self._storage.check()

    def put_file(
        self, key: str, file: Path, *, content_type: str, metadata: Mapping[str, str] | None = None
    ) -> StoredObject:
        with self._watched("put"):
            stored = self._storage.put_file(key, file, content_type=content_type, metadata=metadata)
        self._metrics.uploaded.inc(stored.size_bytes)
        return stored

    def put_stream(self, key: str, content: IO[bytes], *, content_type: str) -> StoredObject:
        with self._watched("put"):
            stored = self._storage.put_stream(key, content, content_type=content_type)
        self._metrics.uploaded.inc(stored.size_bytes)
        return stored

    def stat(self, key: str) -> StoredObject:
        with self._watched("stat"):
            return self._storage.stat(key)

    def read(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        with self._watched("get"):
            chunks = self._storage.read(key, start=start, end=end)
        return self._passed_on(chunks)

    def delete(self, keys: Iterable[str]) -> None:
        with self._watched("delete"):
            self._storage.delete(keys)

    def keys(self, prefix: str) -> Iterator[str]:
        return self._storage.keys(prefix)

    def presigned_url(self, key: str, *, seconds: int, content_disposition: str | None = None) -> str | None:
        return self._storage.presigned_url(key, seconds=seconds, content_disposition=content_disposition)

    def close(self) -> None:
        self._storage.close()

    def _passed_on(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        try:
            yield from chunks
        except StorageUnavailable:
            # It had begun well.
            self._metrics.calls.labels("get", "failed").inc()
            raise

    @contextmanager
    def _watched(self, operation: str) -> Iterator[None]:
        started, outcome = time.monotonic(), "failed"
        try:
            yield
            outcome = "ok"
        except ObjectNotFound:
            outcome = "missing"
            raise
        finally:
            self._metrics.calls.labels(operation, outcome).inc()
            self._metrics.seconds.labels(operation).observe(time.monotonic() - started)
