"""Keys that decide whether two requests are the same. Pure."""

import hashlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from service.jobs.record import ReviewStage, VideoRequest
from service.moderation.categories import POLICY_VERSION
from service.settings import Settings

CACHE_VERSION = 1
"""Raise it when the same request gives another file: encoder settings, labels, upscaling."""

MAX_DRAWN_SEED = 2**31
"""Seeds that we draw fit every client's integer."""

NOT_PIXELS = {"schema_version", "seconds"}
"""Fields of a request that change nothing in its file."""

_NOT_CONTENT = NOT_PIXELS | {"visible_label"}
_CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)


def cache_key(
    request: VideoRequest,
    *,
    fingerprint: str,
    scope: str = "",
    reviewed: Sequence[ReviewStage] = (),
    frame_limit: float | None = None,
    is_watermarked: bool = False,
    parent_asset_id: str | None = None,
) -> str:
    """SHA-256, hex, over everything that changes the file. fingerprint is the model card's.

    scope: whose requests may share a result; a tenant, or everybody's. reviewed: what a person looks at in any case;
    what nobody looked at answers no such request. frame_limit: the frame check's threshold, None without one.
    parent_asset_id: of a remix, whose file names its original.
    """
    content = request.model_dump(mode="json", exclude=_NOT_CONTENT)
    content["prompt"] = normalised(request.prompt)
    content["negative_prompt"] = normalised(request.negative_prompt)
    versions = {"cache": CACHE_VERSION, "policy": POLICY_VERSION}
    label = None if request.visible_label is None else request.visible_label.model_dump(mode="json")
    given = {
        "reviewed": list(reviewed),
        "frame_limit": frame_limit,
        "is_watermarked": is_watermarked,
        "visible_label": label,
        "parent_asset_id": parent_asset_id,
    }
    # Left out where there are none: seeds are drawn from this.
    added = {name: value for name, value in given.items() if value}
    return _digest({"versions": versions, "fingerprint": fingerprint, "scope": scope, **added, **content})


def cache_limits(settings: Settings) -> dict[str, float]:
    """As scripts/prelude/assets.lua takes them: bytes of all entries, seconds of one."""
    return {"bytes": settings.cache_gigabytes * 1e9, "seconds": settings.cache_seconds}


def seed_of(request: VideoRequest) -> int:
    """The seed of an unseeded request, from its own content: the same request is the same video."""
    unlabelled = request.model_copy(update={"seed": 0, "visible_label": None})
    return int(cache_key(unlabelled, fingerprint="")[:16], 16) % MAX_DRAWN_SEED


def body_fingerprint(fields: Mapping[str, Any]) -> str:
    """SHA-256, hex, over a request body as it came: the same whatever the order of its keys."""
    return _digest(fields)


def normalised(prompt: str) -> str:
    """The prompt as the text encoder tells it apart: one Unicode form, single spaces. Case is kept."""
    return " ".join(unicodedata.normalize("NFC", prompt).split())


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_CANONICAL.encode(content).encode()).hexdigest()
