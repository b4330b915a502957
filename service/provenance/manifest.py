"""The signed part of a file's history: a C2PA manifest in the MP4. Source: C2PA 2.2.

Signing is the last thing that may touch the file: any other change makes the signature invalid.
"""

import hmac
import json
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from c2pa import Builder, C2paError, C2paSignerInfo, C2paSigningAlg, Signer

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

    revision: str | None
    """Of the checkpoint, as those who published it call it."""

    parameters: dict[str, Any]
    """That change pixels, without the prompts."""

    prompt_hmac: str
    """prompt_hmac() of the prompts: their owner can prove them, nobody can guess them."""

    parent_asset_id: str | None = None
    """Of a remix: whose parameters it took over."""

    is_watermarked: bool = False
    """Whether its pictures carry a mark of ours."""


def prompt_hmac(prompt: str, negative_prompt: str, *, key: bytes) -> str:
    """HMAC-SHA-256 in hex."""
    return hmac.digest(key, json.dumps([prompt, negative_prompt], ensure_ascii=False).encode(), "sha256").hex()


def manifest_of(generation: Generation) -> dict[str, Any]:
    """As c2pa's Builder takes it."""
    version = metadata.version("wanserve")
    created = {
        "action": "c2pa.created",
        "digitalSourceType": GENERATED,
        "softwareAgent": {"name": generation.model, "version": generation.revision or generation.fingerprint[:16]},
    }
    actions = [created]
    if generation.is_watermarked:
        # Unbound: no assertion tells how to read it, for its readers need the key.
        actions.append({"action": "c2pa.watermarked.unbound"})
    about = {
        "asset_id": generation.asset_id,
        "model": generation.model,
        "fingerprint": generation.fingerprint,
        "revision": generation.revision,
        "parameters": generation.parameters,
        "prompt_hmac_sha256": generation.prompt_hmac,
        "remixed_from_asset_id": generation.parent_asset_id,
    }
    return {
        "claim_generator_info": [{"name": "wanserve", "version": version}],
        "title": f"{generation.asset_id}.mp4",
        "assertions": [
            {"label": "c2pa.actions", "data": {"actions": actions}},
            {"label": GENERATION_LABEL, "data": {name: value for name, value in about.items() if value is not None}},
        ],
    }


def sign(
    source: Path,
    target: Path,
    generation: Generation,
    identity: Identity,
    *,
    parent: Path | None = None,
    timestamp_url: str | None = None,
) -> None:
    """Writes the MP4 file `source` with its manifest to `target`. Raises SigningFailed, and OSError.

    parent: the file that it is a remix of, whose own manifest goes into it.
    timestamp_url: of an authority (RFC 3161) that vouches for the time. One that does not answer fails the signing.
    """
    try:
        with (
            _signer(identity, timestamp_url) as signer,
            Builder(manifest_of(generation)) as builder,
            source.open("rb") as unsigned,
            target.open("w+b") as signed,
        ):
            if parent is not None:
                _add_parent(builder, parent, generation)
            builder.sign(signer, MEDIA_TYPE, unsigned, signed)
    except C2paError as e:
        target.unlink(missing_ok=True)
        raise SigningFailed(str(e)) from e


def _add_parent(builder: Builder, parent: Path, generation: Generation) -> None:
    # An input, not a parentOf: no picture of it was edited, the remix was created anew.
    about = {"title": f"{generation.parent_asset_id}.mp4", "relationship": "inputTo"}
    with parent.open("rb") as file:
        builder.add_ingredient(about, MEDIA_TYPE, file)


def _signer(identity: Identity, timestamp_url: str | None) -> Signer:
    if isinstance(identity.key, bytes):
        return Signer.from_info(C2paSignerInfo(identity.algorithm, identity.chain, identity.key, timestamp_url))
    algorithm = C2paSigningAlg[identity.algorithm.upper()]
    return Signer.from_callback(identity.key.sign, algorithm, identity.chain.decode(), timestamp_url)
