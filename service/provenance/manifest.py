"""The signed part of a file's history: a C2PA manifest in the MP4. Source: C2PA 2.2.

Signing is the last thing that may touch the file: any other change makes the signature invalid.
"""

import hmac
import json
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from c2pa import Builder, C2paError, C2paSignerInfo, Signer

from service.provenance.certificate import Identity

MEDIA_TYPE = "video/mp4"
GENERATED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's term for media that a trained model made."""

GENERATION_LABEL = "org.wanserve.generation"
"""Our own assertion, of the parameters."""


class SigningFailed(Exception):
    """The library refused; its words are the message."""


@dataclass(frozen=True, slots=True)
class Generation:
    """What a manifest tells of a video."""

    asset_id: str
    model: str
    fingerprint: str
    """Of the checkpoint, SHA-256 in hex."""

    parameters: dict[str, Any]
    """That change pixels, without the prompts."""

    prompt_hmac: str
    """prompt_hmac() of the prompts: their owner can prove them, nobody can guess them."""


def prompt_hmac(prompt: str, negative_prompt: str, *, key: bytes) -> str:
    """HMAC-SHA-256 in hex."""
    return hmac.digest(key, json.dumps([prompt, negative_prompt], ensure_ascii=False).encode(), "sha256").hex()


def manifest_of(generation: Generation) -> dict[str, Any]:
    """As c2pa's Builder takes it."""
    version = metadata.version("wanserve")
    created = {
        "action": "c2pa.created",
        "digitalSourceType": GENERATED,
        "softwareAgent": {"name": generation.model, "version": generation.fingerprint[:16]},
    }
    about = {
        "asset_id": generation.asset_id,
        "model": generation.model,
        "fingerprint": generation.fingerprint,
        "parameters": generation.parameters,
        "prompt_hmac_sha256": generation.prompt_hmac,
    }
    return {
        "claim_generator_info": [{"name": "wanserve", "version": version}],
        "title": f"{generation.asset_id}.mp4",
        "assertions": [
            {"label": "c2pa.actions", "data": {"actions": [created]}},
            {"label": GENERATION_LABEL, "data": about},
        ],
    }


def sign(source: Path, target: Path, generation: Generation, identity: Identity) -> None:
    """Writes the MP4 file `source` with its manifest to `target`. Raises SigningFailed, and OSError."""
    info = C2paSignerInfo(identity.algorithm, identity.chain, identity.key, None)
    try:
        with (
            Signer.from_info(info) as signer,
            Builder(manifest_of(generation)) as builder,
            source.open("rb") as unsigned,
            target.open("w+b") as signed,
        ):
            builder.sign(signer, MEDIA_TYPE, unsigned, signed)
    except C2paError as e:
        target.unlink(missing_ok=True)
        raise SigningFailed(str(e)) from e
