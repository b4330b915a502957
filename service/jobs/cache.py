"""Keys that decide whether two requests are the same. Pure."""

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from typing import Any

from service.jobs.record import VideoRequest
from service.moderation.categories import POLICY_VERSION

CACHE_VERSION = 1
"""Raise it when the same request gives another file: encoder settings, labels, upscaling."""

MAX_DRAWN_SEED = 2**31
"""Seeds that we draw fit every client's integer."""

NOT_PIXELS = {"schema_version", "seconds"}
"""Fields of a request that change nothing in its file."""


def cache_key(request: VideoRequest, *, fingerprint: str, scope: str = "", is_reviewed: bool = False) -> str:
    """SHA-256, hex, over everything that changes the file. fingerprint is the model card's.

    scope: whose requests may share a result; a tenant, or everybody's. is_reviewed: a person looks at it first; what
    nobody looked at answers no such request.
    """
    content = request.model_dump(mode="json", exclude=NOT_PIXELS)
    content["prompt"] = normalised(request.prompt)
    content["negative_prompt"] = normalised(request.negative_prompt)
    versions = {"cache": CACHE_VERSION, "policy": POLICY_VERSION}
    reviewed = {"is_reviewed": True} if is_reviewed else {}
    return _digest({"versions": versions, "fingerprint": fingerprint, "scope": scope, **reviewed, **content})


def seed_of(request: VideoRequest) -> int:
    """The seed of an unseeded request, from its own content: the same request is the same video."""
    return int(cache_key(request.model_copy(update={"seed": 0}), fingerprint="")[:16], 16) % MAX_DRAWN_SEED


def body_fingerprint(fields: Mapping[str, Any]) -> str:
    """SHA-256, hex, over a request body as it came: the same whatever the order of its keys."""
    return _digest(fields)


def normalised(prompt: str) -> str:
    """The prompt as the text encoder tells it apart: one Unicode form, single spaces. Case is kept."""
    return " ".join(unicodedata.normalize("NFC", prompt).split())


def _digest(content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()
