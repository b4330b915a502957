"""Whether the disk has room for a video in the making: asked before a job is claimed, not after the GPU's work."""

import shutil
from pathlib import Path

from model.card import CheckpointCard
from service.logs import get_logger
from worker.card import model_card

YUV420_BYTES_PER_PIXEL = 1.5
"""Of a raw frame: no encoded one is larger."""

NUM_COPIES = 2
"""Of a video: the signed one is written beside the other."""

EXTRA_BYTES = 2 * 2**20
"""For the pictures and the index."""

log = get_logger(__name__)


class Room:
    """folder: where files are made. need_bytes: of all that may be in the making."""

    def __init__(self, folder: Path, *, need_bytes: int) -> None:
        self._folder = folder
        self._need_bytes = need_bytes
        self._was_enough = True

    def is_enough(self) -> bool:
        """Logs once when the answer changes."""
        free = shutil.disk_usage(self._folder).free
        is_enough = free >= self._need_bytes
        if is_enough != self._was_enough:
            event = "disk_has_room_again" if is_enough else "disk_too_full_for_jobs"
            log.warning(event, folder=str(self._folder), free_bytes=free, need_bytes=self._need_bytes)
        self._was_enough = is_enough
        return is_enough


def largest_file_bytes(card: CheckpointCard) -> int:
    """An upper bound for any video that the card makes, with its pictures."""
    wire = model_card(card)
    largest_frame = max(width * height for width, height in map(wire.delivery_size, wire.native_sizes))
    return int(NUM_COPIES * largest_frame * wire.num_frames.max * YUV420_BYTES_PER_PIXEL) + EXTRA_BYTES
