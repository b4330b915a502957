"""What is put on and into a finished file beside its pictures: label, logo, watermark, metadata, signature."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.errors import ObjectNotFound
from service.jobs.execution import JobPayload
from service.jobs.watermark_ids import WatermarkIds
from service.logos import read_logo
from service.logs import get_logger
from service.provenance.notary import Notary
from service.provenance.watermark import MIN_SIDE, Marker
from service.storage import Storage
from worker.generate import params_of
from worker.held import HeldJob
from worker.media.encode import Mark
from worker.media.overlay import draw_label
from worker.media.tags import generation_of, tags
from worker.patience import insist_for
from worker.shutdown import Shutdown

log = get_logger(__name__)


class Marks:
    """revision: of the checkpoint, as those who published it call it.

    Waits for a store that does not answer; raises Cancelled when the job is no longer wanted or a shutdown can't wait.
    """

    def __init__(
        self,
        storage: Storage,
        watermark_ids: WatermarkIds,
        notary: Notary,
        *,
        shutdown: Shutdown,
        revision: str | None = None,
    ) -> None:
        self._storage = storage
        self._watermark_ids = watermark_ids
        self._notary = notary
        self._shutdown = shutdown
        self.revision = revision

    def draw_label(self, held: HeldJob, pixels: NDArray[np.uint8], *, fps: int) -> None:
        """In place, on f h w 3, so that previews show it too."""
        label = held.claim.payload.request.visible_label
        if label is None:
            return
        digest = label.logo
        logo = None
        if digest is not None:
            logo = insist_for(held, lambda: read_logo(self._storage, digest), shutdown=self._shutdown, name="storage")
        draw_label(pixels, label, fps=fps, logo=logo)

    def take_number(self, held: HeldJob) -> int | None:
        """That the pictures will carry; None: they get no watermark, or are too small for one."""
        key, payload = self._notary.watermark_key, held.claim.payload
        if key is None or min(payload.request.delivery_width, payload.request.delivery_height) < MIN_SIDE:
            return None
        return insist_for(
            held,
            lambda: self._watermark_ids.take(payload.asset_id, key=key),
            shutdown=self._shutdown,
            name="queue",
        )

    def watermark(self, number: int | None, *, num_frames: int) -> Mark | None:
        """What puts the number into the pictures as they are encoded."""
        key = self._notary.watermark_key
        if key is None or number is None:
            return None
        return Marker(key, number, num_frames=num_frames).mark

    def tags(self, payload: JobPayload) -> dict[str, str]:
        """The file's metadata."""
        request = payload.request
        said = tags(params_of(request), model=request.model, fingerprint=payload.fingerprint, asset_id=payload.asset_id)
        return said | self._notary.tags(payload.asset_id)

    def seal(self, held: HeldJob, file: Path, *, is_watermarked: bool) -> None:
        """Sign the file, the last that may change it."""
        payload = held.claim.payload
        generation = generation_of(
            self._notary,
            params_of(payload.request),
            model=payload.request.model,
            fingerprint=payload.fingerprint,
            revision=self.revision,
            asset_id=payload.asset_id,
            parent_asset_id=None if payload.parent is None else payload.parent.asset_id,
            is_watermarked=is_watermarked,
        )
        parent = file.with_suffix(".parent.mp4")
        try:
            has_parent = self._fetch_parent(held, parent)
            self._notary.seal(file, generation, parent=parent if has_parent else None)
        finally:
            parent.unlink(missing_ok=True)

    def _fetch_parent(self, held: HeldJob, file: Path) -> bool:
        """A remix's original, for its manifest. False: there is none, or none any more."""
        parent = held.claim.payload.parent
        if parent is None:
            return False

        def fetch() -> None:
            with file.open("wb") as copy:
                copy.writelines(self._storage.read(parent.key))

        try:
            insist_for(held, fetch, shutdown=self._shutdown, name="storage")
        except ObjectNotFound:
            log.info("parent_is_gone", job_id=held.id, parent_asset_id=parent.asset_id)
            return False
        return True
