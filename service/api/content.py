"""/videos/{id}/content: the bytes, with ranges, straight from storage."""

import math
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse

from service.api.auth import SHOWN_KEY, tenant_with
from service.api.deps import Gateway, WithGateway
from service.api.file_replies import FILE_DOCS, file_reply
from service.errors import ObjectNotFound, VideoNotReady
from service.jobs.eta import Eta, eta_of
from service.jobs.record import AssetFile, VideoRecord
from service.links import content_disposition, variant_file

RETRY_AFTER_SECONDS = 5
"""Where no worker lives, or none has measured itself."""

MAX_RETRY_AFTER_SECONDS = 600

router = APIRouter(prefix="/videos", tags=["videos"])

Variant = Literal["video", "thumbnail", "spritesheet"]
SignedToken = Annotated[str | None, Query(description="Of a signed link; needs no API key.")]


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
    return file_reply(gateway, request, file, disposition=content_disposition(record, file))


def _file_of(gateway: Gateway, record: VideoRecord, variant: str) -> AssetFile:
    """Raises VideoNotReady and ObjectNotFound."""
    if record.error is not None:
        raise VideoNotReady(f"The video has no file: it failed ({record.error.message}).", param="id")
    if record.asset is None:
        why = "a person must look at it first" if record.is_held else "its file is not there yet"
        raise VideoNotReady(
            f"The video is {record.status}: {why}.",
            param="id",
            retry_after_seconds=_retry_after(eta_of(record, gateway.store.fleet())),
        )
    file = variant_file(record.asset, variant)
    if file is None:
        raise ObjectNotFound(f"This video has no {variant}.", param="variant")
    return file


def _retry_after(eta: Eta | None) -> int:
    """Seconds after which the file is there, as far as is known."""
    return RETRY_AFTER_SECONDS if eta is None else min(max(math.ceil(eta.latest), 1), MAX_RETRY_AFTER_SECONDS)
