"""From frames to files in storage: encode, upload, and leave nothing behind when that fails."""

import errno
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from model.frames import Frames
from service.errors import Unavailable
from service.jobs.garbage import Garbage
from service.jobs.record import Asset, AssetFile, object_key
from service.logs import get_logger
from service.provenance.evidence import packets_sha256_of
from service.storage import Storage
from worker.held import HeldJob
from worker.marks import Marks
from worker.media.encode import save_mp4
from worker.media.previews import PICTURE_TYPE, spritesheet, thumbnail
from worker.media.resize import enlarge
from worker.patience import insist_for
from worker.shutdown import Shutdown

VIDEO_TYPE = "video/mp4"

log = get_logger(__name__)
T = TypeVar("T")


class DiskFull(Exception):
    """The worker's disk has no room for the file in the making."""


@dataclass(frozen=True, slots=True)
class Finished:
    asset: Asset
    encode_seconds: float
    upload_seconds: float


@dataclass(frozen=True, slots=True)
class _Encoded:
    video: Path
    thumbnail: Path
    spritesheet: Path
    width: int
    height: int
    watermark_id: int | None
    """The number that its pictures carry."""

    def unlink(self) -> None:
        for file in (self.video, self.thumbnail, self.spritesheet):
            file.unlink(missing_ok=True)


class _Keys(NamedTuple):
    """Of the objects that an execution writes."""

    video: str
    thumbnail: str
    spritesheet: str


class Finisher:
    """scratch: an existing folder of this process."""

    def __init__(self, storage: Storage, garbage: Garbage, marks: Marks, scratch: Path, shutdown: Shutdown) -> None:
        self._storage = storage
        self._garbage = garbage
        self._marks = marks
        self._scratch = scratch
        self._shutdown = shutdown

    def finish(self, held: HeldJob, frames: Frames) -> Finished:
        """Encode and upload under keys that carry the execution id; waits for a store that does not answer.

        Raises Cancelled when the job is no longer wanted or a shutdown can't wait any longer, and DiskFull.
        Whatever it raises, no file of this execution is left.
        """
        started = time.monotonic()
        asset_id, execution_id = held.claim.payload.asset_id, held.claim.lease.execution_id
        names = ("video.mp4", "thumbnail.webp", "spritesheet.webp")
        keys = _Keys(*(object_key(asset_id, execution_id, name) for name in names))
        with self._encoded(held, frames, keys) as files:
            encoded = time.monotonic()
            held.enter("upload", percent=98)
            asset = self._upload(held, files, keys, frames)
        return Finished(asset, encode_seconds=encoded - started, upload_seconds=time.monotonic() - encoded)

    def remove(self, asset: Asset) -> None:
        """Delete what was uploaded for a commit that was lost."""
        self._remove([file.key for file in asset.files])

    @contextmanager
    def _encoded(self, held: HeldJob, frames: Frames, keys: _Keys) -> Iterator[_Encoded]:
        payload, marks = held.claim.payload, self._marks
        # Should this process die before the record names them, a sweep removes them, and the watermark's number.
        self._insist(held, lambda: self._garbage.announce(*keys), name="queue")
        files = _Encoded(
            video=self._scratch / f"{payload.asset_id}.mp4",
            thumbnail=self._scratch / f"{payload.asset_id}.webp",
            spritesheet=self._scratch / f"{payload.asset_id}.sheet.webp",
            width=payload.request.delivery_width,
            height=payload.request.delivery_height,
            watermark_id=marks.take_number(held),
        )
        pixels = enlarge(frames.pixels, width=files.width, height=files.height)
        marks.draw_label(held, pixels, fps=frames.fps)
        watermark = marks.watermark(files.watermark_id, num_frames=len(pixels))
        try:
            with _full_disk_named():
                save_mp4(pixels, frames.fps, files.video, tags=marks.tags(payload), mark=watermark)
                marks.seal(held, files.video, is_watermarked=watermark is not None)
                files.thumbnail.write_bytes(thumbnail(pixels))
                files.spritesheet.write_bytes(spritesheet(pixels))
            yield files
        finally:
            files.unlink()

    def _upload(self, held: HeldJob, files: _Encoded, keys: _Keys, frames: Frames) -> Asset:
        asset_id = held.claim.payload.asset_id
        try:
            video = self._put(held, keys.video, files.video, content_type=VIDEO_TYPE)
            picture = self._put(held, keys.thumbnail, files.thumbnail, content_type=PICTURE_TYPE)
            sheet = self._put(held, keys.spritesheet, files.spritesheet, content_type=PICTURE_TYPE)
        except BaseException:
            self._remove(keys)
            raise
        return Asset(
            id=asset_id,
            video=video,
            thumbnail=picture,
            spritesheet=sheet,
            width=files.width,
            height=files.height,
            num_frames=frames.num_frames,
            fps=frames.fps,
            fingerprint=held.claim.payload.fingerprint,
            revision=self._marks.revision,
            packets_sha256=packets_sha256_of(files.video),
            watermark_id=files.watermark_id,
        )

    def _put(self, held: HeldJob, key: str, file: Path, *, content_type: str) -> AssetFile:
        metadata = {"asset-id": held.claim.payload.asset_id, "job-id": held.id}
        stored = self._insist(
            held,
            lambda: self._storage.put_file(key, file, content_type=content_type, metadata=metadata),
            name="storage",
        )
        return AssetFile(
            key=key,
            content_type=content_type,
            size_bytes=stored.size_bytes,
            sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        )

    def _insist(self, held: HeldJob, action: Callable[[], T], *, name: str) -> T:
        return insist_for(held, action, shutdown=self._shutdown, name=name)

    def _remove(self, keys: Sequence[str]) -> None:
        try:
            self._storage.delete(list(keys))
        except Unavailable as e:
            log.warning("objects_left_behind", keys=list(keys), reason=e.message)


@contextmanager
def _full_disk_named() -> Iterator[None]:
    try:
        yield
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull from e
        raise
