"""Calls to the object store are counted by what became of them."""

import io
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from service.errors import ObjectNotFound, StorageUnavailable
from service.metrics import StorageMetrics
from service.storage import Storage
from service.watched_storage import WatchedStorage


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def watched(storage: Storage, registry: CollectorRegistry) -> WatchedStorage:
    return WatchedStorage(storage, StorageMetrics(registry))


def calls(registry: CollectorRegistry, operation: str, outcome: str) -> float:
    labels = {"operation": operation, "outcome": outcome}
    return registry.get_sample_value("wanserve_storage_calls_total", labels) or 0.0


def test_calls_pass_through_and_are_counted(watched: WatchedStorage, registry: CollectorRegistry) -> None:
    watched.put_stream("watched/a", io.BytesIO(b"pictures"), content_type="video/mp4")
    assert watched.stat("watched/a").size_bytes == 8
    assert b"".join(watched.read("watched/a", start=1)) == b"ictures"
    assert list(watched.keys("watched/")) == ["watched/a"]
    watched.delete(["watched/a"])
    with pytest.raises(ObjectNotFound):
        watched.read("watched/a")

    assert [calls(registry, operation, "ok") for operation in ("put", "stat", "get", "delete")] == [1, 1, 1, 1]
    assert (calls(registry, "get", "missing"), calls(registry, "get", "failed")) == (1, 0)
    assert registry.get_sample_value("wanserve_storage_uploaded_bytes_total") == 8
    assert registry.get_sample_value("wanserve_storage_call_seconds_count", {"operation": "get"}) == 2


def test_store_that_fails_is_counted_also_in_the_middle_of_a_file(
    watched: WatchedStorage, registry: CollectorRegistry, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object, **__: object) -> Iterator[bytes]:
        yield b"pic"
        raise StorageUnavailable("away")

    def refuses(*_: object, **__: object) -> None:
        raise StorageUnavailable("away")

    monkeypatch.setattr(storage, "read", breaks)
    monkeypatch.setattr(storage, "put_stream", refuses)

    with pytest.raises(StorageUnavailable):
        list(watched.read("a"))
    with pytest.raises(StorageUnavailable):
        watched.put_stream("a", io.BytesIO(b""), content_type="video/mp4")

    assert (calls(registry, "get", "failed"), calls(registry, "put", "failed")) == (1, 1)
