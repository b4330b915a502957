"""Writes what Redis remembers of completed videos' origins to object storage, and removes it where a rule says so."""

from collections.abc import Sequence
from typing import cast

from redis import Redis

from service.jobs.connection import redis_errors
from service.jobs.store import VideoStore
from service.jobs.watermark_ids import WatermarkIds
from service.logs import get_logger
from service.provenance.records import prefix_of, record_from, write_record
from service.settings import Settings
from service.storage import Storage

PORTION = 50
_UNRECORDED = "wanserve:unrecorded"

log = get_logger(__name__)


class Recorder:
    """Any number may record at once, any number of times. Whoever opened redis and storage closes them."""

    def __init__(self, redis: Redis, store: VideoStore, storage: Storage, settings: Settings) -> None:
        self._redis = redis
        self._store = store
        self._storage = storage
        self._rule = settings.provenance_records
        self._watermark_keys = settings.known_watermark_keys
        self._watermark_ids = WatermarkIds(redis)

    def record(self) -> int:
        """Write all that waits; how many. Raises QueueUnavailable and StorageUnavailable: then the rest waits on."""
        num_records = 0
        while waiting := self._waiting():
            for video_id, snapshot in waiting.items():
                self._write(video_id, snapshot)
                self._forget(video_id)
            num_records += len(waiting)
        return num_records

    def files_are_gone(self, asset_ids: Sequence[str]) -> None:
        """Their last objects were removed. Raises as record()."""
        if self._rule == "keep":
            return
        for asset_id in asset_ids:
            # Else it was another attempt's file that went: the asset has its own.
            if self._store.has_files(asset_id):
                continue
            self._remove(asset_id)

    def _remove(self, asset_id: str) -> None:
        self._watermark_ids.forget(asset_id, keys=self._watermark_keys())
        self._storage.delete(list(self._storage.keys(prefix_of(asset_id))))

    def _write(self, video_id: str, snapshot: str) -> None:
        try:
            record = record_from(video_id, snapshot)
        except (ValueError, KeyError) as e:
            # Damaged in Redis: that must not hold up all others.
            log.error("provenance_not_recorded", video_id=video_id, reason=str(e))
            return
        if record.asset.watermark_id is not None:
            # Should the files of an attempt before have been swept just now, and the number with them.
            self._watermark_ids.put(record.asset.watermark_id, record.asset.id)
        if self._rule == "off":
            return
        write_record(self._storage, record)
        if self._rule == "with_files" and not self._store.has_files(record.asset.id):
            # They went before, or just now: files_are_gone() may have come too early to see it.
            self._remove(record.asset.id)

    @redis_errors()
    def _waiting(self) -> dict[str, str]:
        drawn = cast("list[str] | None", self._redis.hrandfield(_UNRECORDED, PORTION, withvalues=True)) or []
        return dict(zip(drawn[::2], drawn[1::2], strict=True))

    @redis_errors()
    def _forget(self, video_id: str) -> None:
        self._redis.hdel(_UNRECORDED, video_id)
