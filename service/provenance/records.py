"""A file's origin in object storage, an object for every video that has it: what Redis forgets stays there."""

import io
import json
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, ValidationError

from service.errors import ObjectNotFound
from service.jobs.record import Asset, FilterVerdict, VideoRequest, Wire
from service.jobs.reviews import Decision
from service.logs import get_logger
from service.storage import Storage

PREFIX = "provenance/"

log = get_logger(__name__)


class RecordedReview(Wire):
    """What people said of it before anybody got it."""

    stage: str
    category: str
    score: float | None = None
    state: str
    decisions: tuple[Decision, ...] = ()


class Origin(Wire):
    """Who asked for what, and what became of it. Files are the same for all videos of an asset."""

    schema_version: Literal[1] = 1
    video_id: str
    job_id: str
    tenant: str
    key_id: str | None = None
    """Of the API key that asked for it."""

    kind: Literal["queued", "joined", "cached"]
    """Whether it was made for this video, or for an equal request before or at the same time."""

    created_at: float
    """Unix seconds."""

    finished_at: float
    expires_at: float
    request: VideoRequest
    original_prompt: str | None = None
    """The caller's own, where the request has an extended one."""

    remixed_from_video_id: str | None = None
    filter: FilterVerdict | None = None
    """What the prompt filter said of it."""

    frames_score: float | None = None
    """Of the worst frame that the frame check looked at, 0 to 1; None: it did not look."""

    reviews: tuple[RecordedReview, ...] = ()
    """Empty: neither the filter nor the frame check nor a rule asked a person."""

    asset: Asset
    worker: str | None = None


class ProvenanceRecord(Origin):
    """As it lies in storage."""

    stored: dict[str, str] = Field(repr=False)
    """The video's own fields in Redis, from which `wanserve catalogue rebuild` makes it anew; no secrets."""

    @property
    def key(self) -> str:
        return f"{prefix_of(self.asset.id)}{self.video_id}.json"


def prefix_of(asset_id: str) -> str:
    """Of an asset's records."""
    return f"{PREFIX}{asset_id}/"


def record_from(video_id: str, snapshot: str) -> ProvenanceRecord:
    """From what scripts/prelude/ends.lua remembers of a video as it is completed. Raises ValueError."""
    seen = json.loads(snapshot)
    stored = _pairs(seen["video"])
    details, outcome = json.loads(stored["details"]), json.loads(stored["outcome"])
    # A secret of its owner's, which nobody needs any more.
    details.pop("webhook", None)
    stored["details"] = json.dumps(details, ensure_ascii=False)
    return ProvenanceRecord(
        video_id=video_id,
        job_id=stored["job_id"],
        tenant=stored["tenant"],
        key_id=details.get("key_id"),
        kind=stored["kind"],
        created_at=float(stored["created_at"]),
        finished_at=float(stored["finished_at"]),
        expires_at=float(stored["expires_at"]),
        request=VideoRequest.model_validate_json(stored["request"]),
        original_prompt=details.get("original_prompt"),
        remixed_from_video_id=details.get("remixed_from_video_id"),
        filter=details.get("filter"),
        frames_score=outcome.get("frames_score"),
        reviews=tuple(_review(_pairs(fields)) for fields in seen["reviews"] if fields),
        asset=Asset.model_validate(outcome["asset"]),
        worker=outcome.get("worker"),
        stored=stored,
    )


def write_record(storage: Storage, record: ProvenanceRecord) -> None:
    """Again is harmless. Raises StorageUnavailable."""
    content = record.model_dump_json(indent=1).encode()
    storage.put_stream(record.key, io.BytesIO(content), content_type="application/json")


def read_records(storage: Storage, asset_id: str) -> tuple[ProvenanceRecord, ...]:
    """Of all videos that have or had an asset, the oldest first. Raises StorageUnavailable."""
    found = tuple(records_under(storage, prefix_of(asset_id)))
    return tuple(sorted(found, key=lambda record: record.created_at))


def records_under(storage: Storage, prefix: str = PREFIX) -> Iterator[ProvenanceRecord]:
    """One that was damaged, or written by a newer version, is left out, and the log says so."""
    for key in storage.keys(prefix):
        try:
            yield ProvenanceRecord.model_validate_json(b"".join(storage.read(key)))
        except ValidationError as e:
            log.warning("provenance_record_unreadable", key=key, reason=str(e.errors(include_url=False)[0]["msg"]))
        except ObjectNotFound:
            # Deleted since it was listed.
            continue


def _review(fields: dict[str, str]) -> RecordedReview:
    return RecordedReview(
        stage=fields["stage"],
        category=fields["category"],
        score=float(fields["score"]) if "score" in fields else None,
        state=fields["state"],
        decisions=json.loads(fields.get("decisions", "[]")),
    )


def _pairs(flat: Any) -> dict[str, str]:
    # Lua writes an empty list as an empty object.
    return dict(zip(flat[::2], flat[1::2], strict=True)) if flat else {}
