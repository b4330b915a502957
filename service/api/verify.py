"""/verify: what an uploaded video proves about where it comes from."""

from tempfile import SpooledTemporaryFile
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from service.api.auth import WithReader
from service.api.deps import Gateway, WithGateway
from service.api.problems import problem_docs
from service.api.uploads import MAX_FILE_BYTES, ReceivedFile, received_file
from service.errors import InvalidRequest
from service.jobs.record import VideoRecord
from service.provenance.evidence import Evidence, NotAVideo, Seal, examine_stream
from service.provenance.notary import known_anchors
from service.tenants import Tenant

router = APIRouter(tags=["provenance"])

FORM = {
    "type": "object",
    "properties": {"file": {"type": "string", "format": "binary", "description": "An MP4 file, 200 MiB at most."}},
    "required": ["file"],
}
NO_EVIDENCE = (
    "Nothing in this file tells where it comes from. That does not say how it was made: marks can be taken off."
)


class ShownSignature(BaseModel):
    """By C2PA."""

    seal: Seal = Field(
        description="none; invalid: something was changed since; valid: nothing was, by an unknown signer; trusted: "
        "nothing was, by a signer known here."
    )
    signer: str | None = Field(description="Organisation and name in the certificate.")
    faults: list[str] = Field(description="C2PA's codes of what is wrong.")
    generation: dict[str, Any] | None = Field(
        description="What wanserve says in it: asset_id, model, fingerprint, parameters, prompt_hmac_sha256."
    )


class Verification(BaseModel):
    object: Literal["verification"] = "verification"
    has_evidence: bool
    message: str
    sha256: str
    packets_sha256: str = Field(description="Of the coded pictures alone: the same in another container.")
    width: int
    height: int
    label: dict[str, str] | None = Field(description="China's AIGC label, GB 45438-2025.")
    signature: ShownSignature
    video_ids: list[str] = Field(description="Your own videos, kept here still, that the signed asset belongs to.")
    is_delivered_file: bool | None = Field(
        description="Whether it is the very file of those; null where there are none."
    )


@router.post(
    "/verify",
    responses=problem_docs(400, 401, 403, 413, 503),
    openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": FORM}}}},
    summary="Verify a file",
)
async def verify_file(
    gateway: WithGateway, tenant: WithReader, received: Annotated[ReceivedFile, Depends(received_file)]
) -> Verification:
    """Reads the label and the signature, and keeps nothing of the file."""
    return await run_in_threadpool(_verify, gateway, tenant, received)


def _verify(gateway: Gateway, tenant: Tenant, received: ReceivedFile) -> Verification:
    if isinstance(received.content, SpooledTemporaryFile):
        # PyAV finds no stream in one that still lies in memory.
        received.content.rollover()
    try:
        evidence = examine_stream(received.content, name="file", anchors=known_anchors(gateway.settings))
    except NotAVideo as e:
        raise InvalidRequest(f"{e} Send an MP4 file of at most {MAX_FILE_BYTES >> 20} MiB.", param="file") from e
    videos = _videos(gateway, tenant, evidence)
    delivered = {video.asset.video.sha256 for video in videos if video.asset is not None}
    signature = evidence.signature
    return Verification(
        has_evidence=evidence.is_there,
        message=_message(evidence),
        sha256=evidence.sha256,
        packets_sha256=evidence.packets_sha256,
        width=evidence.width,
        height=evidence.height,
        label=evidence.label,
        signature=ShownSignature(
            seal=signature.seal,
            signer=signature.signer,
            faults=list(signature.faults),
            generation=signature.generation,
        ),
        video_ids=[video.id for video in videos],
        is_delivered_file=evidence.sha256 in delivered if videos else None,
    )


def _videos(gateway: Gateway, tenant: Tenant, evidence: Evidence) -> list[VideoRecord]:
    """Of the tenant. The signature must be our own: anybody can write an asset's id into a file."""
    generation = evidence.signature.generation
    if evidence.signature.seal is not Seal.TRUSTED or generation is None:
        return []
    videos = gateway.store.of_asset(str(generation.get("asset_id")))
    return [video for video in videos if video.tenant == tenant.name]


def _message(evidence: Evidence) -> str:
    if not evidence.is_there:
        return NO_EVIDENCE
    match evidence.signature.seal:
        case Seal.NONE:
            return "The file carries a label and no signature: it was encoded or packed anew, or never signed."
        case Seal.INVALID:
            return "The file was changed after it was signed."
        case Seal.VALID:
            return "Nothing was changed since the file was signed, by a signer who is not known here."
        case Seal.TRUSTED:
            return "Nothing was changed since the file was signed, by a signer who is known here."
