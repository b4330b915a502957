"""What a storm left behind, as plain values: all that the judge sees."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.chaos.customer import Receipt
from tests.chaos.journal import Entry


@dataclass(frozen=True, slots=True)
class VideoEvent:
    """One entry of the outbox."""

    video_id: str
    kind: str


@dataclass(frozen=True, slots=True)
class Ending:
    """What the service shows of a video once everything is calm."""

    status: str
    error_code: str | None
    num_decoded_frames: int | None
    """Of its MP4, downloaded and decoded; None without one."""


@dataclass(frozen=True, slots=True)
class Remains:
    """What lies about after every video was deleted, the cache's time was over and the garbage was removed."""

    objects: frozenset[str]
    """Keys in the bucket."""

    keys: Mapping[str, float | None]
    """Of Redis; seconds to live, None for ever."""

    cached_bytes: int
    """What the cache counts as its own."""


@dataclass(frozen=True, slots=True)
class Evidence:
    receipts: Sequence[Receipt]
    endings: Mapping[str, Ending]
    """Of the videos that were not deleted, by id."""

    events: Sequence[VideoEvent]
    journal: Sequence[Entry]
    num_results: Mapping[str, int]
    """How many outcomes RQ keeps of a job, by its id."""

    remains: Remains
