"""The body of POST /files: a form with one file, which is spooled to disk as it comes in."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import IO

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from service.api.bodies import Fields, limited, nested
from service.errors import InvalidRequest

MAX_FILE_BYTES = 200 * 1024 * 1024
MAX_FIELDS = 16
MAX_FIELD_BYTES = 4096
FORM_BYTES = 64 * 1024
"""What the form may take beside the file."""


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    name: str
    content: IO[bytes]
    size_bytes: int
    fields: Fields
    """What came beside it."""


async def received_file(request: Request) -> AsyncIterator[ReceivedFile]:
    """A dependency; the file is gone after the reply. Raises InvalidRequest and BodyTooLarge."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise InvalidRequest("Send the file as multipart/form-data, in the field file.", param="Content-Type")
    form = await _parsed(request)
    try:
        yield _file_in(form)
    finally:
        await form.close()


async def _parsed(request: Request) -> FormData:
    stream = limited(request, limit=MAX_FILE_BYTES + FORM_BYTES)
    parser = MultiPartParser(request.headers, stream, max_files=1, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES)
    try:
        return await parser.parse()
    except (MultiPartException, KeyError, ValueError) as e:
        reason = e.message if isinstance(e, MultiPartException) else "it can't be read"
        raise InvalidRequest(f"The body is not valid multipart/form-data: {reason}", param="body") from e


def _file_in(form: FormData) -> ReceivedFile:
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise InvalidRequest("file is missing: send it with a file name.", param="file")
    if not file.size:
        raise InvalidRequest("file is empty.", param="file")
    fields = nested([(name, value) for name, value in form.multi_items() if isinstance(value, str)])
    return ReceivedFile(_plain_name(file.filename or ""), file.file, file.size, fields)


def _plain_name(name: str) -> str:
    """Without folders and what a header or a terminal must not see."""
    last = re.split(r"[/\\]", name)[-1]
    return "".join(letter for letter in last if letter.isprintable())[:255] or "batch.jsonl"
