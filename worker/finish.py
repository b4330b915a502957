"""From frames to files in storage: encode, upload, and leave nothing behind when that fails."""

import errno
import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from model.errors import Cancelled
from model.frames import Frames
from service.errors import Unavailable
from service.jobs.execution import JobPayload, Signal
from service.jobs.garbage import Garbage
from service.jobs.record import Asset, AssetFile, object_key
from service.logs import get_logger
from service.provenance.manifest import Generation
from service.provenance.notary import Notary
from service.storage import Storage
from worker.generate import params_of
from worker.held import HeldJob
from worker.media.encode import save_mp4
from worker.media.previews import PICTURE_TYPE, spritesheet, thumbnail
from worker.media.resize import enlarge
from worker.media.tags import generation_of, tags
from worker.patience import insist
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

    def unlink(self) -> None:
        for file in (self.video, self.thumbnail, self.spritesheet):
            file.unlink(missing_ok=True)


class Finisher:
    """scratch: an existing folder of this process."""

    def __init__(
        self, storage: Storage, garbage: Garbage, scratch: Path, shutdown: Shutdown, *, notary: Notary
    ) -> None:
        self._storage = storage
        self._notary = notary
        self._garbage = garbage
        self._scratch = scratch
        self._shutdown = shutdown

    def finish(self, held: HeldJob, frames: Frames) -> Finished:
        """Encode and upload under keys that carry the execution id; waits for a store that does not answer.

        Raises Cancelled when the job is no longer wanted or a shutdown can't wait any longer, and DiskFull.
        Whatever it raises, no file of this execution is left.
        """
        started = time.monotonic()
        with self._encoded(held, frames) as files:
            encoded = time.monotonic()
            held.enter("upload", percent=98)
            asset = self._upload(held, files, frames)
        return Finished(asset, encode_seconds=encoded - started, upload_seconds=time.monotonic() - encoded)

    def remove(self, asset: Asset) -> None:
        """Delete what was uploaded for a commit that was lost."""
        self._remove([file.key for file in asset.files])

    @contextmanager
    def _encoded(self, held: HeldJob, frames: Frames) -> Iterator[_Encoded]:
        payload = held.claim.payload
        request = payload.request
        files = _Encoded(
            video=self._scratch / f"{payload.asset_id}.mp4",
            thumbnail=self._scratch / f"{payload.asset_id}.webp",
            spritesheet=self._scratch / f"{payload.asset_id}.sheet.webp",
            width=request.delivery_width,
            height=request.delivery_height,
        )
        pixels = enlarge(frames.pixels, width=files.width, height=files.height)
        try:
            with _full_disk_named():
                save_mp4(pixels, frames.fps, files.video, tags=_tags(payload) | self._notary.tags(payload.asset_id))
                self._notary.seal(files.video, self._generation(payload))
                files.thumbnail.write_bytes(thumbnail(pixels))
                files.spritesheet.write_bytes(spritesheet(pixels))
            yield files
        finally:
            files.unlink()

    def _generation(self, payload: JobPayload) -> Generation:
        return generation_of(
            self._notary,
            params_of(payload.request),
            model=payload.request.model,
            fingerprint=payload.fingerprint,
            asset_id=payload.asset_id,
        )

    def _upload(self, held: HeldJob, files: _Encoded, frames: Frames) -> Asset:
        lease, asset_id = held.claim.lease, held.claim.payload.asset_id
        names = ("video.mp4", "thumbnail.webp", "spritesheet.webp")
        keys = [object_key(asset_id, lease.execution_id, name) for name in names]
        video_key, thumbnail_key, sheet_key = keys
        try:
            # Should this process die before the record names them, a sweep removes them.
            self._insist(held, lambda: self._garbage.announce(*keys), name="queue")
            video = self._put(held, video_key, files.video, content_type=VIDEO_TYPE)
            picture = self._put(held, thumbnail_key, files.thumbnail, content_type=PICTURE_TYPE)
            sheet = self._put(held, sheet_key, files.spritesheet, content_type=PICTURE_TYPE)
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
        def may_go_on() -> bool:
            held.touch()
            return held.signal is Signal.OK and self._shutdown.seconds_left > 1

        try:
            return insist(action, may_go_on=may_go_on, name=name)
        except Unavailable as e:
            raise Cancelled from e

    def _remove(self, keys: list[str]) -> None:
        try:
            self._storage.delete(keys)
        except Unavailable as e:
            log.warning("objects_left_behind", keys=keys, reason=e.message)


@contextmanager
def _full_disk_named() -> Iterator[None]:
    try:
        yield
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull from e
        raise


def _tags(payload: JobPayload) -> dict[str, str]:
    return tags(
        params_of(payload.request),
        model=payload.request.model,
        fingerprint=payload.fingerprint,
        asset_id=payload.asset_id,
    )
