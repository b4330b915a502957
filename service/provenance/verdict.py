"""What a file's evidence and our own records say together of what became of it since it was made. Pure."""

from enum import StrEnum

from service.jobs.record import Asset
from service.provenance.evidence import Evidence, Seal


class Verdict(StrEnum):
    UNTOUCHED = "untouched"
    """Every byte is as it was signed."""

    CHANGED = "changed"
    """It carries its signature, and something was changed since."""

    REMUXED = "remuxed"
    """The very pictures as they were coded, in another container: the signature is gone."""

    REENCODED = "reencoded"
    """Encoded anew: the watermark alone tells where it comes from."""

    MARKED = "marked"
    """A watermark of ours without its signature: packed or encoded anew, which of both can't be told here."""

    LABELLED = "labelled"
    """Metadata alone, which anybody can write."""

    UNKNOWN = "unknown"
    """No evidence. That says nothing about how it was made."""


MESSAGES = {
    Verdict.UNTOUCHED: "Nothing was changed since the file was signed.",
    Verdict.CHANGED: "The file was changed after it was signed.",
    Verdict.REMUXED: "The file was packed anew: its coded pictures are the ones made here, its signature is gone.",
    Verdict.REENCODED: "The file was encoded anew: its signature is gone, its watermark tells where it comes from.",
    Verdict.MARKED: "The file was packed or encoded anew: its signature is gone, its pictures carry our watermark.",
    Verdict.LABELLED: "The file carries a label and no signature: it was encoded or packed anew, or never signed. "
    "Anybody can write a label.",
    Verdict.UNKNOWN: "No evidence: nothing in this file tells where it comes from. That does not say how it was made: "
    "marks can be taken off.",
}


def judge(evidence: Evidence, asset: Asset | None = None) -> Verdict:
    """asset: that the file was made as, where it is known."""
    match evidence.signature.seal:
        case Seal.VALID | Seal.TRUSTED:
            return Verdict.UNTOUCHED
        case Seal.INVALID:
            return Verdict.CHANGED
        case Seal.NONE:
            return _without_signature(evidence, asset)


def _without_signature(evidence: Evidence, asset: Asset | None) -> Verdict:
    if asset is not None and asset.packets_sha256 == evidence.packets_sha256:
        return Verdict.REMUXED
    if evidence.watermark is not None:
        return Verdict.MARKED if asset is None else Verdict.REENCODED
    return Verdict.UNKNOWN if evidence.label is None else Verdict.LABELLED
