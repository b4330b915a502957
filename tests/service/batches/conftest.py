"""A feeder that is driven by hand, on the real queue and the real store; a worker is played through the queue."""

import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from redis import Redis

from service.batches.batch import Batch
from service.batches.batches import Batches
from service.batches.feeder import BatchFeeder
from service.batches.files import File, Files
from service.batches.lines import BatchRequest
from service.batches.results import Results
from service.embedded import EmbeddedServers
from service.jobs.card import ModelCard
from service.jobs.connection import connect
from service.jobs.execution import Outcome
from service.jobs.queue import JobQueue
from service.jobs.record import DEFAULT_TENANT, new_execution_id
from service.jobs.request import parse, resolve
from service.jobs.store import VideoStore
from service.jobs.submission import Submission
from service.settings import Settings
from service.storage import Storage
from tests.conftest import FINGERPRINT
from tests.service.claims import completed

MAX_AT_WORK = 2
KEEP_SECONDS = 3600


@pytest.fixture(scope="session")
def redis_url(servers: EmbeddedServers) -> str:
    """A database of its own: the session's gateway, where one runs, feeds what lies in the other."""
    assert servers.settings.redis_url is not None
    place, _, _ = servers.settings.redis_url.rpartition("/")
    return f"{place}/2"


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with connect(redis_url) as client:
        client.flushdb()
        yield client


def line(custom_id: str, /, **changes: object) -> str:
    """A line as it should be, but for the changes; its prompt is its name."""
    fields = {"custom_id": custom_id, "method": "POST", "url": "/v1/videos", "body": {"prompt": custom_id}}
    return json.dumps(fields | changes)


class Yard:
    """All parts around batches, on one client of Redis and one of the store."""

    def __init__(self, redis: Redis, storage: Storage, settings: Settings, card: ModelCard) -> None:
        self._card = card
        self.storage = storage
        self.files, self.batches = Files(redis, storage), Batches(redis)
        self.queue, self.store = JobQueue(redis, settings), VideoStore(redis)
        self.results = Results(
            self.batches,
            self.files,
            self.store,
            storage,
            show=lambda record: {"id": record.id, "status": record.status},
            show_problem=lambda refusal: {"error": {"code": refusal.code}},
        )
        self.feeder = self.feeder_of(self.submit)

    def feeder_of(self, submit: Callable[[Batch, BatchRequest], None], **changes: Any) -> BatchFeeder:
        arguments = {"max_at_work": MAX_AT_WORK} | changes
        return BatchFeeder(self.batches, self.queue, self.store, self.storage, self.results, submit, **arguments)

    def submit(self, batch: Batch, request: BatchRequest) -> None:
        resolved = resolve(parse(request.body), self._card)
        self.queue.submit(
            Submission(
                video_id=request.video_id,
                job_id=request.job_id,
                asset_id=request.asset_id,
                request=resolved.request,
                fingerprint=self._card.fingerprint,
                tenant=batch.tenant,
                priority="bulk",
            )
        )

    def upload(self, *lines: str, tenant: str = DEFAULT_TENANT) -> File:
        content = io.BytesIO("\n".join(lines).encode())
        return self.files.create(self.files.upload(content), tenant=tenant, filename="in.jsonl", seconds=KEEP_SECONDS)

    def create(self, *lines: str, tenant: str = DEFAULT_TENANT, window_seconds: int = 3600) -> str:
        """A batch of these lines; its id."""
        return self.batches.create(
            tenant=tenant,
            input_file_id=self.upload(*lines, tenant=tenant).id,
            completion_window="1h",
            window_seconds=window_seconds,
            metadata={},
            keep_seconds=KEEP_SECONDS,
        ).id

    def get(self, batch_id: str) -> Batch:
        return self.batches.get(batch_id, tenant=DEFAULT_TENANT)

    def work(self) -> list[str]:
        """Complete all jobs that wait; their prompts."""
        prompts = []
        while claimed := self.queue.claim(worker="w", fingerprint=FINGERPRINT, execution_id=new_execution_id()):
            self.queue.finish(claimed.lease, completed(claimed))
            prompts.append(claimed.payload.request.prompt)
        return prompts

    def fail_next(self) -> None:
        claimed = self.queue.claim(worker="w", fingerprint=FINGERPRINT, execution_id=new_execution_id())
        assert claimed is not None
        self.queue.finish(claimed.lease, Outcome.failed("out_of_memory", "Too large."))

    def run_to_end(self, batch_id: str) -> Batch:
        """Feed and work until the batch has ended."""
        for _ in range(200):
            self.feeder.feed()
            self.work()
            if batch_id not in self.batches.active():
                return self.get(batch_id)
        raise AssertionError("the batch does not end")

    def lines_of(self, file_id: str | None) -> list[dict[str, Any]]:
        """Of an output or error file; none where there is no file."""
        if file_id is None:
            return []
        content = b"".join(self.files.content(self.files.get(file_id, tenant=DEFAULT_TENANT)))
        return [json.loads(each) for each in content.splitlines()]


@dataclass(frozen=True, slots=True)
class Ended:
    """What a batch left."""

    output: Sequence[str]
    """Custom ids, in order."""

    errors: Sequence[tuple[str | None, str]]
    """Custom ids and codes, in order."""


@pytest.fixture
def yard(redis: Redis, storage: Storage, settings: Settings, card: ModelCard) -> Yard:
    return Yard(redis, storage, settings, card)


@pytest.fixture
def left_by(yard: Yard) -> Callable[[Batch], Ended]:
    """left_by(batch) reads its files."""

    def read(batch: Batch) -> Ended:
        output, errors = yard.lines_of(batch.output_file_id), yard.lines_of(batch.error_file_id)
        assert all(each["error"] is None for each in output)
        return Ended(
            output=[each["custom_id"] for each in output],
            errors=[(each["custom_id"], each["error"]["code"]) for each in errors],
        )

    return read
