"""What do a file's marks cost? Finishing with label, metadata and signature against without: `python -m bench.marking`.

The watermark, which bench/watermark.py measures, is drawn on both sides.
"""

import io
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from bench.clips import Frames, drifting
from bench.report import Figure, report
from service.embedded import EmbeddedServers
from service.jobs.record import VisibleLabel
from service.jobs.visible_label import TEXTS
from service.provenance.evidence import packets_sha256_of
from service.provenance.notary import Notary
from service.provenance.watermark import Marker
from service.settings import Settings
from service.storage import Storage, open_storage
from worker.media.encode import save_mp4
from worker.media.overlay import draw_label
from worker.media.previews import spritesheet, thumbnail

ROUNDS = int(os.environ.get("ROUNDS", "9"))
CLIPS = {"720p, 81 frames": (1280, 720, 81), "480p, 81 frames": (832, 480, 81), "256 pixels, 17 frames": (256, 256, 17)}
GOAL = 1.10


def main() -> int:
    return report(figures())


def figures() -> Iterator[Figure]:
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedServers.start(Settings(data_dir=Path(folder))) as servers,
        closing(open_storage(servers.settings)) as storage,
    ):
        storage.ensure_bucket()
        notary = Notary(servers.settings)
        for name, size in CLIPS.items():
            clip = drifting(np.random.default_rng(1), *size)
            plain, marked = [], []
            # A short clip's few milliseconds drown in the machine's noise.
            for _ in range(ROUNDS * max(1, 81 // size[2])):
                plain.append(seconds_to_finish(clip, Path(folder), storage, None))
                marked.append(seconds_to_finish(clip, Path(folder), storage, notary))
            value = statistics.median(mine / other for mine, other in zip(marked, plain, strict=True))
            yield Figure(f"{name}: plain", statistics.median(plain), "s")
            yield Figure(f"{name}: marked / plain", value, goal=GOAL)


def seconds_to_finish(clip: Frames, folder: Path, storage: Storage, notary: Notary | None) -> float:
    """As worker/finish.py does it, uploads included. notary: None leaves the marks away."""
    frames, path = clip.copy(), folder / "clip.mp4"
    mark = Marker(b"of the bench, 16", 7, num_frames=len(frames)).mark
    started = time.perf_counter()
    if notary is None:
        save_mp4(frames, 16, path, mark=mark)
    else:
        draw_label(frames, VisibleLabel(text=TEXTS["both"]), fps=16)
        save_mp4(frames, 16, path, tags=notary.tags("asset"), mark=mark)
        generation = notary.generation(
            asset_id="asset", model="m", fingerprint="f", parameters={}, prompts=("p", ""), is_watermarked=True
        )
        assert notary.seal(path, generation)
        packets_sha256_of(path)
    storage.put_file("video.mp4", path, content_type="video/mp4")
    for name, picture in (("thumbnail.webp", thumbnail(frames)), ("spritesheet.webp", spritesheet(frames))):
        storage.put_stream(name, io.BytesIO(picture), content_type="image/webp")
    return time.perf_counter() - started


if __name__ == "__main__":
    raise SystemExit(main())
