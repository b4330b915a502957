"""What a file itself proves about where it comes from: its label, its signature, its coded pictures."""

import hashlib
import json
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

import av
from av.error import FFmpegError
from c2pa import C2paError, Context, Reader

from service.provenance.label import LABEL_TAG, read_label
from service.provenance.manifest import GENERATION_LABEL, MEDIA_TYPE
from service.provenance.watermark import Found
from service.provenance.watermark_reader import read_watermark

UNTRUSTED = "signingCredential.untrusted"
BLOCK_BYTES = 1 << 20
ANY_MP4 = "mov"
"""ffmpeg's name for the reader of MP4 files. Left to guess, it would follow playlists, to other machines too."""


class NotAVideo(Exception):
    """The file is no MP4 with a video in it."""


class Seal(StrEnum):
    """What the signature says."""

    NONE = "none"
    INVALID = "invalid"
    """Something was changed after signing, or the signature never was one."""

    VALID = "valid"
    """Unchanged since it was signed, by somebody whom we don't know."""

    TRUSTED = "trusted"
    """Unchanged since it was signed by somebody under an anchor that we know."""


@dataclass(frozen=True, slots=True)
class Signature:
    seal: Seal
    signer: str | None = None
    """Organisation and name, as the certificate says."""

    faults: tuple[str, ...] = ()
    """C2PA's codes of what is wrong."""

    generation: dict[str, Any] | None = field(default=None)
    """Our own assertion, where the manifest holds one: asset, model, parameters."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Of one file."""

    sha256: str
    packets_sha256: str
    """Of the coded pictures alone: the same in another container."""

    width: int
    height: int
    label: dict[str, str] | None
    signature: Signature
    watermark: Found | None = None
    """In the pictures themselves, made with a key of ours."""

    @property
    def is_there(self) -> bool:
        """False says nothing about how the video was made: marks can be taken off."""
        return self.label is not None or self.signature.seal is not Seal.NONE or self.watermark is not None


def examine(path: Path, *, anchors: Iterable[str] = (), watermark_keys: Iterable[bytes] = ()) -> Evidence:
    """anchors: certificates in PEM of those whom we trust. watermark_keys: to look for marks with; without one nobody
    looks. Raises NotAVideo, and OSError.
    """
    with path.open("rb") as file:
        return examine_stream(file, name=path.name, anchors=anchors, watermark_keys=watermark_keys)


def examine_stream(
    file: IO[bytes], *, name: str, anchors: Iterable[str] = (), watermark_keys: Iterable[bytes] = ()
) -> Evidence:
    """As examine(); of a file that can be read from any place. name: for messages."""
    file.seek(0)
    if file.read(12)[4:8] != b"ftyp":
        raise NotAVideo(f"{name} is no MP4 file.")
    try:
        with av.open(_rewound(file), "r", format=ANY_MP4) as container:
            if not container.streams.video:
                raise NotAVideo(f"{name} holds no video.")
            stream = container.streams.video[0]
            packets_sha256 = _packets_sha256(container, stream)
            width, height = stream.width, stream.height
            label = read_label(container.metadata.get(LABEL_TAG, ""))
    except FFmpegError as e:
        raise NotAVideo(f"{name} can't be read as MP4: {e.strerror}.") from e
    return Evidence(
        sha256=_sha256(_rewound(file)),
        packets_sha256=packets_sha256,
        width=width,
        height=height,
        label=label,
        signature=_signature(_rewound(file), anchors),
        watermark=read_watermark(file, keys) if (keys := list(watermark_keys)) else None,
    )


def packets_sha256_of(path: Path) -> str:
    """Of the coded pictures alone, in a file of ours: it holds nothing else in its mdat box. Raises NotAVideo."""
    with path.open("rb") as file:
        while head := file.read(8):
            size, kind = struct.unpack(">I4s", head)
            if kind == b"mdat" and size >= 8:
                return hashlib.sha256(file.read(size - 8)).hexdigest()
            if size < 8:
                break
            file.seek(size - 8, os.SEEK_CUR)
    raise NotAVideo(f"{path.name} is no MP4 file of ours.")


def _rewound(file: IO[bytes]) -> IO[bytes]:
    file.seek(0)
    return file


def _sha256(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while block := file.read(BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()


def _packets_sha256(container: "av.container.InputContainer", stream: "av.VideoStream") -> str:
    """Never decoded: a file of a few bytes may stand for a picture of gigabytes."""
    digest = hashlib.sha256()
    for packet in container.demux(stream):
        digest.update(bytes(packet))
    return digest.hexdigest()


def _signature(file: IO[bytes], anchors: Iterable[str]) -> Signature:
    known = "\n".join(anchors)
    context = Context.from_dict({"trust": {"user_anchors": known}}) if known else None
    try:
        with Reader(MEDIA_TYPE, file, context=context) as reader:
            report = json.loads(reader.json())
            state = reader.get_validation_state()
    except C2paError as e:
        if isinstance(e, C2paError.ManifestNotFound):
            return Signature(Seal.NONE)
        return Signature(Seal.INVALID, faults=(str(e),))
    manifest = report["manifests"][report["active_manifest"]]
    return Signature(
        seal=Seal(str(state).lower()),
        signer=_signer(manifest.get("signature_info") or {}),
        faults=tuple(sorted(_faults(report))),
        generation=_generation(manifest),
    )


def _signer(info: dict[str, Any]) -> str | None:
    names = [name for name in (info.get("issuer"), info.get("common_name")) if name]
    return ", ".join(names) or None


def _faults(report: dict[str, Any]) -> set[str]:
    """That the signer is not known is told by the seal."""
    return {fault["code"] for fault in report.get("validation_status") or [] if fault["code"] != UNTRUSTED}


def _generation(manifest: dict[str, Any]) -> dict[str, Any] | None:
    for assertion in manifest.get("assertions") or []:
        if assertion.get("label") == GENERATION_LABEL and isinstance(assertion.get("data"), dict):
            found: dict[str, Any] = assertion["data"]
            return found
    return None
