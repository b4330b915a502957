"""/verify: what an uploaded video proves about where it comes from."""

import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from tempfile import TemporaryFile
from typing import IO

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from service.api.auth import WithReader
from service.api.bodies import read_fields
from service.api.deps import Gateway, WithGateway, gateway_in
from service.api.problems import problem_docs
from service.api.uploads import MAX_FILE_BYTES, received_file
from service.errors import InvalidRequest
from service.jobs.fields import validated
from service.jobs.record import Asset, VideoRecord
from service.provenance.evidence import Evidence, NotAVideo, Seal, examine_stream
from service.provenance.notary import known_anchors
from service.provenance.records import Origin, read_records
from service.provenance.verification import Verification, verification_of
from service.tenants import Tenant
from service.webhooks.outbound import Outbound

router = APIRouter(tags=["provenance"])

FORM = {
    "type": "object",
    "properties": {"file": {"type": "string", "format": "binary", "description": "An MP4 file, 200 MiB at most."}},
    "required": ["file"],
}
URL_SECONDS = 60.0
_DECODING, _FETCHING = CapacityLimiter(2), CapacityLimiter(8)
"""Threads beside those of other requests: decoding takes the processor, and a slow server somebody's patience."""


class AskedUrl(BaseModel):
    """A file that lies elsewhere."""

    url: str = Field(max_length=2048, description="Of an MP4 file, 200 MiB at most; redirects are not followed.")


@router.post(
    "/verify",
    responses=problem_docs(400, 401, 403, 413, 502, 503),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": FORM},
                "application/json": {"schema": AskedUrl.model_json_schema()},
            },
        }
    },
    summary="Verify a file",
)
async def verify_file(gateway: WithGateway, tenant: WithReader, request: Request) -> Verification:
    """Reads label, signature and watermark of a file that is sent, or lies at a URL, and keeps nothing of it."""
    async with _file_of(request) as file:
        return await run_sync(_verify, gateway, tenant, file, limiter=_DECODING)


@asynccontextmanager
async def _file_of(request: Request) -> AsyncIterator[IO[bytes]]:
    # PyAV finds no stream in a spooled file that still lies in memory: it is told apart by its name.
    with TemporaryFile() as file:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "multipart/form-data":
            async for received in received_file(request):
                await run_sync(shutil.copyfileobj, received.content, file, limiter=_FETCHING)
        else:
            asked = validated(AskedUrl, await read_fields(request))
            client = Outbound(gateway_in(request).receiver_rules, timeout_seconds=URL_SECONDS)
            await run_sync(partial(client.fetch, asked.url, file, limit=MAX_FILE_BYTES), limiter=_FETCHING)
        yield file


def _verify(gateway: Gateway, tenant: Tenant, file: IO[bytes]) -> Verification:
    evidence = _examined(gateway, file)
    asset_id = _asset_id(gateway, evidence)
    videos = [] if asset_id is None else gateway.store.of_asset(asset_id)
    records = () if asset_id is None else read_records(gateway.storage, asset_id)
    own = [video for video in videos if video.tenant == tenant.name]
    delivered = {video.asset.video.sha256 for video in own if video.asset is not None}
    return verification_of(
        evidence,
        asset=_asset(videos, records),
        video_ids=[video.id for video in own],
        is_delivered_file=evidence.sha256 in delivered if own else None,
        records=[record for record in records if record.tenant == tenant.name],
    )


def _examined(gateway: Gateway, file: IO[bytes]) -> Evidence:
    settings = gateway.settings
    keys = settings.known_watermark_keys()
    try:
        return examine_stream(file, name="file", anchors=known_anchors(settings), watermark_keys=keys)
    except NotAVideo as e:
        raise InvalidRequest(f"{e} Send an MP4 file of at most {MAX_FILE_BYTES >> 20} MiB.", param="file") from e


def _asset_id(gateway: Gateway, evidence: Evidence) -> str | None:
    """By our own signature, or by a watermark: anybody can write an asset's id into a file."""
    generation = evidence.signature.generation
    if evidence.signature.seal is Seal.TRUSTED and generation is not None:
        return str(generation.get("asset_id"))
    return None if evidence.watermark is None else gateway.watermark_ids.asset_of(evidence.watermark.id)


def _asset(videos: Sequence[VideoRecord], records: Sequence[Origin]) -> Asset | None:
    """Any of them will do: an asset's files are the same for all its videos."""
    found = [video.asset for video in videos if video.asset is not None] + [record.asset for record in records]
    return found[0] if found else None
