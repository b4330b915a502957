"""What is told of a file to whoever asks: its evidence, the verdict, and to its owner whose it is."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field

from service.jobs.record import Asset
from service.provenance.evidence import Evidence, Seal
from service.provenance.records import Origin
from service.provenance.verdict import MESSAGES, Verdict, judge


class ShownWatermark(BaseModel):
    """In the pictures themselves."""

    id: int
    score: float = Field(description="How far it stands out, in standard deviations; from 3.8 on it counts.")


class ShownSignature(BaseModel):
    """By C2PA."""

    seal: Seal = Field(
        description="none; invalid: something was changed since; valid: nothing was, by an unknown signer; trusted: "
        "nothing was, by a signer known here."
    )
    signer: str | None = Field(description="Organisation and name in the certificate.")
    faults: list[str] = Field(description="C2PA's codes of what is wrong.")
    generation: dict[str, Any] | None = Field(
        description="What wanserve says in it: asset_id, model, fingerprint, revision, parameters, prompt_hmac_sha256."
    )


class Verification(BaseModel):
    object: Literal["verification"] = "verification"
    verdict: Verdict = Field(
        description="untouched; changed since it was signed; remuxed: the very pictures in another container; "
        "reencoded: the watermark alone is left; marked: one of the two; labelled: metadata alone; unknown: nothing."
    )
    has_evidence: bool
    message: str
    sha256: str
    packets_sha256: str = Field(description="Of the coded pictures alone: the same in another container.")
    width: int
    height: int
    label: dict[str, str] | None = Field(description="China's AIGC label, GB 45438-2025.")
    signature: ShownSignature
    watermark: ShownWatermark | None
    video_ids: list[str] = Field(description="Your own videos, kept here still, that the file belongs to.")
    is_delivered_file: bool | None = Field(
        description="Whether it is the very file of those; null where there are none."
    )
    records: list[Origin] = Field(description="Your own provenance records of it: who asked for it, when, for what.")


def verification_of(
    evidence: Evidence,
    *,
    asset: Asset | None = None,
    video_ids: Sequence[str] = (),
    is_delivered_file: bool | None = None,
    records: Sequence[Origin] = (),
) -> Verification:
    """asset: that the file was made as, where it is known."""
    verdict = judge(evidence, asset)
    signature, watermark = evidence.signature, evidence.watermark
    return Verification(
        verdict=verdict,
        has_evidence=evidence.is_there,
        message=_message(verdict, signature.seal),
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
        watermark=None if watermark is None else ShownWatermark(id=watermark.id, score=round(watermark.score, 2)),
        video_ids=list(video_ids),
        is_delivered_file=is_delivered_file,
        records=list(records),
    )


def _message(verdict: Verdict, seal: Seal) -> str:
    match seal:
        case Seal.VALID:
            return "Nothing was changed since the file was signed, by a signer who is not known here."
        case Seal.TRUSTED:
            return "Nothing was changed since the file was signed, by a signer who is known here."
        case _:
            return MESSAGES[verdict]
