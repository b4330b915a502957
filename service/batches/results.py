"""What a batch leaves: a line for each of its requests, in the output file or in the error file. Knows no HTTP.

Both are written to disk first, then streamed into storage: no more than a portion lies in memory.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any

from service.batches.batch import Batch, BatchStatus, Refusal
from service.batches.batches import Batches
from service.batches.files import Files, file_fields
from service.batches.lines import Line, custom_id_of, read_lines, request_id_of, video_id_of
from service.jobs.record import State, VideoRecord
from service.jobs.store import VideoStore
from service.storage import Storage

PORTION_LINES = 100

Show = Callable[[VideoRecord], dict[str, Any]]
ShowProblem = Callable[[Refusal], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Written:
    files: Mapping[str, Mapping[str, str | int]]
    """By field of the batch, for Batches.finish(). Garbage unless a batch comes to name them."""

    num_completed: int
    num_failed: int


@dataclass(frozen=True, slots=True)
class Ending:
    """How one request ended."""

    response: dict[str, Any] | None
    error: dict[str, Any] | None


class Results:
    """Whoever opened the parts closes them."""

    def __init__(
        self,
        batches: Batches,
        files: Files,
        store: VideoStore,
        storage: Storage,
        *,
        show: Show,
        show_problem: ShowProblem,
    ) -> None:
        """show, show_problem: the bodies that a POST of its own, and a look, would have brought."""
        self._batches = batches
        self._files = files
        self._store = store
        self._storage = storage
        self._show = show
        self._show_problem = show_problem

    def write(self, batch: Batch) -> Written:
        """Raises QueueUnavailable, StorageUnavailable, and ObjectNotFound without the input file."""
        num_completed = num_failed = 0
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            for text, is_success in self._lines(batch):
                (output if is_success else errors).write(text)
                num_completed += is_success
                num_failed += not is_success
            drafts = {"output": (output, num_completed), "error": (errors, num_failed)}
            files = {
                f"{name}_file_id": self._stored(batch, name, draft) for name, (draft, num) in drafts.items() if num > 0
            }
        return Written(files, num_completed, num_failed)

    def _stored(self, batch: Batch, name: str, draft: IO[bytes]) -> dict[str, str | int]:
        draft.seek(0)
        upload = self._files.upload(draft)
        filename = f"{batch.id}_{name}.jsonl"
        return file_fields(
            upload, tenant=batch.tenant, filename=filename, purpose="batch_output", seconds=batch.keep_seconds
        )

    def _lines(self, batch: Batch) -> Iterator[tuple[bytes, bool]]:
        """In the order of the input. True: the request's video was made."""
        lines = read_lines(self._storage, batch.input_key, size_bytes=batch.input_bytes)
        with closing(lines):
            while portion := list(islice(lines, PORTION_LINES)):
                yield from self._portion(batch, portion)

    def _portion(self, batch: Batch, lines: list[Line]) -> Iterator[tuple[bytes, bool]]:
        refusals = self._batches.refusals(batch.id, [line.number for line in lines])
        found = self._store.find([video_id_of(batch.id, line.number) for line in lines])
        records = {record.id: record for record in found}
        for line in lines:
            record = records.get(video_id_of(batch.id, line.number))
            ending = self._ending(batch, line, refusals.get(line.number), record)
            content = {
                "id": request_id_of(batch.id, line.number),
                "custom_id": custom_id_of(line),
                "response": ending.response,
                "error": ending.error,
            }
            yield json.dumps(content, ensure_ascii=False).encode() + b"\n", ending.error is None

    def _ending(self, batch: Batch, line: Line, refusal: Refusal | None, record: VideoRecord | None) -> Ending:
        request_id = request_id_of(batch.id, line.number)
        if refusal is not None:
            response = _response(refusal.http_status, request_id, self._show_problem(refusal))
            return Ending(response, _error(refusal.code, refusal.message, refusal.param))
        if record is None or not record.is_terminal:
            return Ending(None, _missing(batch, line))
        response = _response(200, request_id, self._show(record))
        if record.state is State.COMPLETED:
            return Ending(response, None)
        assert record.error is not None
        return Ending(response, _error(record.error.code, record.error.message))


def _response(status_code: int, request_id: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"status_code": status_code, "request_id": request_id, "body": body}


def _error(code: str, message: str, param: str | None = None) -> dict[str, Any]:
    return {"code": code, "message": message, "param": param}


def _missing(batch: Batch, line: Line) -> dict[str, Any]:
    """Of a request without a video that has ended."""
    if line.number < batch.number:
        return _error("video_not_found", "The video was deleted, or had expired, before the batch ended.")
    if batch.status is BatchStatus.CANCELLING:
        return _error("batch_cancelled", "The batch was cancelled before this request was begun.")
    return _error("batch_expired", "The batch's completion window was over before this request was begun.")
