"""Lines of a batch's file: read as a stream, each a request or an error of its own. Knows no Redis and no HTTP."""

import hashlib
import json
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.errors import InvalidRequest
from service.jobs.fields import Text, validated
from service.storage import Storage

MAX_LINES = 50_000
MAX_LINE_BYTES = 1024 * 1024
"""As of a POST's own body."""

PORTION_BYTES = 1024 * 1024
"""Asked of storage at a time."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""Some editors put it first."""


@dataclass(frozen=True, slots=True)
class Line:
    number: int
    """1 for the first; empty lines do not count."""

    end: int
    """Where the next one begins in the file."""

    content: bytes | None
    """None of a line that is longer than MAX_LINE_BYTES."""


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """A line that can be understood. Its names come from the batch's and its number: submitted again it is the same."""

    batch_id: str
    number: int
    custom_id: str
    body: dict[str, Any]

    @property
    def video_id(self) -> str:
        return video_id_of(self.batch_id, self.number)

    @property
    def job_id(self) -> str:
        return _drawn("job", self.batch_id, self.number)

    @property
    def asset_id(self) -> str:
        return _drawn("asset", self.batch_id, self.number)


class AskedLine(BaseModel):
    model_config = ConfigDict(frozen=True)

    custom_id: Text = Field(min_length=1, max_length=512)
    method: Literal["POST"]
    url: Literal["/v1/videos"]
    body: dict[str, Any]


def read_lines(storage: Storage, key: str, *, size_bytes: int, start: int = 0, number: int = 1) -> Generator[Line]:
    """The lines of an object from a byte on, which begins the line of that number. Raises as Storage.read()."""
    for content, end in _split(_portions(storage, key, size_bytes=size_bytes, start=start), start=start):
        if content is None or content.strip():
            yield Line(number, end, content)
            number += 1


def parse_line(batch_id: str, line: Line) -> BatchRequest:
    """Raises InvalidRequest with the line's own field as param."""
    if line.content is None:
        raise InvalidRequest(f"The line is longer than {MAX_LINE_BYTES // 1024} KiB.")
    try:
        fields = json.loads(line.content.removeprefix(BYTE_ORDER_MARK))
    except (ValueError, RecursionError) as e:
        reason = str(e) if isinstance(e, json.JSONDecodeError) else "it can't be read"
        raise InvalidRequest(f"The line is not valid JSON: {reason}.") from e
    if not isinstance(fields, dict):
        raise InvalidRequest("The line must be a JSON object.")
    asked = validated(AskedLine, fields)
    return BatchRequest(batch_id, line.number, asked.custom_id, asked.body)


def custom_id_of(line: Line) -> str | None:
    """What the line calls itself, whatever else is wrong with it."""
    try:
        fields = json.loads((line.content or b"").removeprefix(BYTE_ORDER_MARK))
        name = fields.get("custom_id") if isinstance(fields, dict) else None
        is_legal = isinstance(name, str) and 1 <= len(name.encode()) <= 4 * 512
    except (ValueError, RecursionError):
        return None
    return name if is_legal else None


def video_id_of(batch_id: str, number: int) -> str:
    """Of the video that a request of the batch becomes."""
    return _drawn("video", batch_id, number)


def request_id_of(batch_id: str, number: int) -> str:
    """Of the request's line in the output or error file."""
    return _drawn("batch_req", batch_id, number)


def _drawn(kind: str, batch_id: str, number: int) -> str:
    return f"{kind}_{hashlib.sha256(f'{kind} {batch_id} {number}'.encode()).hexdigest()[:32]}"


def _portions(storage: Storage, key: str, *, size_bytes: int, start: int) -> Iterator[bytes]:
    for begin in range(start, size_bytes, PORTION_BYTES):
        yield from storage.read(key, start=begin, end=min(size_bytes, begin + PORTION_BYTES))


def _split(chunks: Iterable[bytes], *, start: int) -> Iterator[tuple[bytes | None, int]]:
    """Each line, None for one that is too long to be kept, and where it ends."""
    kept, end, is_long = bytearray(), start, False
    for chunk in chunks:
        *whole, rest = chunk.split(b"\n")
        for piece in whole:
            end += len(piece) + 1
            is_long = is_long or len(kept) + len(piece) > MAX_LINE_BYTES
            yield None if is_long else bytes(kept + piece), end
            kept, is_long = bytearray(), False
        end += len(rest)
        is_long = is_long or len(kept) + len(rest) > MAX_LINE_BYTES
        kept = bytearray() if is_long else kept + rest
    if kept or is_long:
        yield None if is_long else bytes(kept), end
