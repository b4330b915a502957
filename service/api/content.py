"""/videos/{id}/content: the bytes, with ranges, straight from storage."""

import math
from collections.abc import Iterator
from itertools import chain
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse

from service.api.auth import SHOWN_KEY, tenant_with
from service.api.deps import Gateway, WithGateway
from service.api.problems import ResponseDocs, problem_docs
from service.api.ranges import is_same_file, names_etag, wanted_range
from service.errors import ObjectNotFound, VideoNotReady
from service.jobs.eta import Eta, eta_of
from service.jobs.record import AssetFile, VideoRecord
from service.links import content_disposition, variant_file
from service.storage import StoredObject

RETRY_AFTER_SECONDS = 5
"""Where no worker lives, or none has measured itself."""

MAX_RETRY_AFTER_SECONDS = 600

router = APIRouter(prefix="/videos", tags=["videos"])

Variant = Literal["video", "thumbnail", "spritesheet"]
SignedToken = Annotated[str | None, Query(description="Of a signed link; needs no API key.")]
FILE_DOCS: ResponseDocs = {
    200: {"description": "The whole file.", "content": {"video/mp4": {}, "image/webp": {}}},
    206: {"description": "The part that Range asked for."},
    304: {"description": "If-None-Match names this file."},
    **problem_docs(400, 401, 403, 404, 409, 416, 503),
}


async def owner_of(
    gateway: WithGateway, request: Request, _shown: Annotated[object, SHOWN_KEY], token: SignedToken = None
) -> str | None:
    """Whose file it must be; None: the link's own signature says who may. Raises as tenant_with()."""
    return None if token is not None else (await tenant_with("read", gateway, request)).name


@router.get(
    "/{video_id}/content",
    response_class=StreamingResponse,
    responses=FILE_DOCS,
    # A signed link needs no key: added to the need for one as the other way.
    openapi_extra={"security": [{}]},
    summary="Download a file",
)
@router.head("/{video_id}/content", include_in_schema=False)
def get_content(
    gateway: WithGateway,
    request: Request,
    owner: Annotated[str | None, Depends(owner_of)],
    video_id: str,
    variant: Variant = "video",
    expires: Annotated[int | None, Query(description="Of a signed link.")] = None,
    token: SignedToken = None,
) -> Response:
    """The MP4, its thumbnail or its sprite sheet. Understands Range, If-Range and If-None-Match."""
    if token is not None:
        gateway.links.check(video_id, variant=variant, expires=expires or 0, token=token, now=gateway.clock())
    record = gateway.store.get(video_id, tenant=owner)
    file = _file_of(gateway, record, variant)
    stored = gateway.storage.stat(file.key)
    headers = _headers(record, file, stored)
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


def _file_of(gateway: Gateway, record: VideoRecord, variant: str) -> AssetFile:
    """Raises VideoNotReady and ObjectNotFound."""
    if record.error is not None:
        raise VideoNotReady(f"The video has no file: it failed ({record.error.message}).", param="id")
    if record.asset is None:
        raise VideoNotReady(
            f"The video is {record.status}: its file is not there yet.",
            param="id",
            retry_after_seconds=_retry_after(eta_of(record, gateway.store.fleet())),
        )
    file = variant_file(record, variant)
    if file is None:
        raise ObjectNotFound(f"This video has no {variant}.", param="variant")
    return file


def _retry_after(eta: Eta | None) -> int:
    """Seconds after which the file is there, as far as is known."""
    return RETRY_AFTER_SECONDS if eta is None else min(max(math.ceil(eta.latest), 1), MAX_RETRY_AFTER_SECONDS)


def _headers(record: VideoRecord, file: AssetFile, stored: StoredObject) -> dict[str, str]:
    return {
        "Accept-Ranges": "bytes",
        # A copy must be asked about each time: after DELETE the file is gone.
        "Cache-Control": "private, no-cache",
        "Content-Disposition": content_disposition(record, file),
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


def begun(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Read the first chunk now: a store that does not answer must be an error reply, not a broken stream."""
    return chain([next(chunks, b"")], chunks)
