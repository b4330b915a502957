"""After a loss of Redis: finished videos are listed again, from the records that lie in storage."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from service.errors import ObjectNotFound
from service.jobs.catalogue import Catalogue
from service.jobs.watermark_ids import WatermarkIds
from service.provenance.records import ProvenanceRecord, records_under
from service.storage import Storage


@dataclass(slots=True)
class Rebuilt:
    """How many videos, by what became of them."""

    num_restored: int = 0
    num_there: int = 0
    num_gone: int = 0


def rebuild(
    catalogue: Catalogue, watermark_ids: WatermarkIds, storage: Storage, *, clock: Callable[[], float] = time.time
) -> Rebuilt:
    """Any number of times; what is there stays as it is. Watermarks lead to their assets again, of gone files too.

    Raises QueueUnavailable and StorageUnavailable: call it again.
    """
    rebuilt = Rebuilt()
    for record in records_under(storage):
        if record.asset.watermark_id is not None:
            watermark_ids.put(record.asset.watermark_id, record.asset.id)
        if record.expires_at <= clock() or not _has_files(storage, record):
            rebuilt.num_gone += 1
        elif catalogue.restore(record.video_id, record.stored, record.asset):
            rebuilt.num_restored += 1
        else:
            rebuilt.num_there += 1
    return rebuilt


def _has_files(storage: Storage, record: ProvenanceRecord) -> bool:
    try:
        storage.stat(record.asset.video.key)
    except ObjectNotFound:
        return False
    return True
