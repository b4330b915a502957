"""Records of videos, model cards and live workers. Every method raises QueueUnavailable without Redis."""

from dataclasses import dataclass
from typing import Literal

from redis import Redis

from service.jobs.card import ModelCard
from service.jobs.record import Asset, VideoRecord, WorkerInfo

PROGRESS_CHANNEL = "wanserve:progress"
"""Pub/sub of record.ProgressMessage as JSON."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list, in the order asked for."""

    records: tuple[VideoRecord, ...]
    has_more: bool


class VideoStore:
    """Takes a client from connection.connect(), which the caller closes."""

    def __init__(self, redis: Redis) -> None:
        raise NotImplementedError

    def check(self) -> None:
        """Raises QueueUnavailable unless Redis answers."""
        raise NotImplementedError

    def get(self, video_id: str) -> VideoRecord:
        """Raises VideoNotFound."""
        raise NotImplementedError

    def list(
        self, *, after: str | None = None, limit: int = 20, order: Literal["asc", "desc"] = "desc"
    ) -> Page:
        """By creation time. Raises InvalidRequest(param="after") for an id that is not there."""
        raise NotImplementedError

    def delete(self, video_id: str) -> Asset | None:
        """Cancel the video if it has not ended, then remove its record.

        Returns the asset whose files the caller removes from storage, or None while something else refers
        to it.
        Raises VideoNotFound.
        """
        raise NotImplementedError

    def register_card(self, card: ModelCard) -> None:
        """The last card of a model persists when its workers are gone."""
        raise NotImplementedError

    def cards(self) -> tuple[ModelCard, ...]:
        """All cards ever registered, those of live workers first. Empty before the first worker."""
        raise NotImplementedError

    def card(self, name: str | None = None) -> ModelCard:
        """The card that answers to a name; without one the first. Raises NoModel, ModelNotFound."""
        raise NotImplementedError

    def report_alive(self, worker: WorkerInfo, *, ttl_seconds: float) -> None:
        """A warm worker says that it lives."""
        raise NotImplementedError

    def report_gone(self, name: str) -> None:
        """A worker leaves."""
        raise NotImplementedError

    def live_workers(self) -> tuple[WorkerInfo, ...]:
        """Those whose report_alive has not run out."""
        raise NotImplementedError
