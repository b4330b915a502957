"""A stored file as a reply: whole or in part, read straight from storage."""

from collections.abc import Iterator
from itertools import chain

from fastapi import Request
from fastapi.responses import Response, StreamingResponse

from service.api.deps import Gateway
from service.api.problems import ResponseDocs, problem_docs
from service.api.ranges import is_same_file, names_etag, wanted_range
from service.jobs.record import AssetFile
from service.storage import StoredObject

FILE_DOCS: ResponseDocs = {
    200: {"description": "The whole file.", "content": {"video/mp4": {}, "image/webp": {}}},
    206: {"description": "The part that Range asked for."},
    304: {"description": "If-None-Match names this file."},
    **problem_docs(400, 401, 403, 404, 409, 416, 503),
}


def file_reply(gateway: Gateway, request: Request, file: AssetFile, *, disposition: str) -> Response:
    """Understands Range, If-Range and If-None-Match. Raises ObjectNotFound, RangeNotSatisfiable, StorageUnavailable."""
    stored = gateway.storage.stat(file.key)
    headers = _headers(file, stored, disposition)
    if names_etag(request.headers.get("if-none-match"), stored.etag):
        return Response(status_code=304, headers=headers)
    header = request.headers.get("range")
    is_current = is_same_file(request.headers.get("if-range"), stored.etag)
    part = wanted_range(header if is_current else None, size_bytes=stored.size_bytes)
    if part is None:
        headers["Content-Length"] = str(stored.size_bytes)
        return _reply(gateway, request, stored, (0, stored.size_bytes), status=200, headers=headers)
    start, end = part
    headers["Content-Length"] = str(end - start)
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{stored.size_bytes}"
    return _reply(gateway, request, stored, part, status=206, headers=headers)


def begun(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Read the first chunk now: a store that does not answer must be an error reply, not a broken stream."""
    return chain([next(chunks, b"")], chunks)


def _headers(file: AssetFile, stored: StoredObject, disposition: str) -> dict[str, str]:
    return {
        "Accept-Ranges": "bytes",
        # A copy must be asked about each time: after DELETE the file is gone.
        "Cache-Control": "private, no-cache",
        "Content-Disposition": disposition,
        "Content-Type": file.content_type,
        "ETag": stored.etag,
    }


def _reply(
    gateway: Gateway,
    request: Request,
    stored: StoredObject,
    part: tuple[int, int],
    *,
    status: int,
    headers: dict[str, str],
) -> Response:
    if request.method == "HEAD" or part[0] == part[1]:
        return Response(status_code=status, headers=headers)
    chunks = gateway.storage.read(stored.key, start=part[0], end=part[1])
    return StreamingResponse(begun(chunks), status_code=status, headers=headers)
