"""Does the watermark stay, and is it never seen where none is? `python -m bench.watermark` for 200 clips; CLIPS=20.

Every clip is delivered as a worker does it, and then encoded anew by others: at crf 23, at crf 28, at half the size.
"""

import io
import itertools
import os
import secrets
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from bench.clips import Frames, drawn_clips, embedded_clips, plain
from bench.report import Figure, report
from service.provenance.watermark import Marker
from service.provenance.watermark_reader import read_watermark
from worker.media.encode import Mark, save_mp4

NUM_CLIPS = int(os.environ.get("CLIPS", "200"))
EMBEDDED_SHARE = 0.4
WRONG_KEYS_A_CLIP = 9
KEY = b"of the bench, 16"
WAYS = {"crf 23": (23, Fraction(1)), "crf 28": (28, Fraction(1)), "half size": (23, Fraction(1, 2))}
GOALS = {"crf 23": 99.0, "crf 28": 97.0, "half size": 97.0}


@dataclass(slots=True)
class Tally:
    num_clips: int = 0
    num_read: dict[str, int] = field(default_factory=lambda: dict.fromkeys(WAYS, 0))
    scores: dict[str, list[float]] = field(default_factory=lambda: {way: [] for way in WAYS})
    num_unmarked: int = 0
    num_false: int = 0
    decibels: list[float] = field(default_factory=list)
    growth: list[float] = field(default_factory=list)
    milliseconds_720p: list[float] = field(default_factory=list)


class Watched:
    """A mark that says how much it changed, and how many seconds of one core it took."""

    def __init__(self, mark: Mark) -> None:
        self._mark = mark
        self.squares: list[float] = []
        self.seconds: list[float] = []

    def __call__(self, luma: NDArray[np.uint8]) -> None:
        before = luma.astype(np.float32)
        started = time.process_time()
        self._mark(luma)
        self.seconds.append(time.process_time() - started)
        self.squares.append(float(((luma - before) ** 2).mean()))


def main() -> int:
    return report(figures())


def figures() -> Iterator[Figure]:
    num_embedded = round(NUM_CLIPS * EMBEDDED_SHARE)
    tally, plain_tally = Tally(), Tally()
    with tempfile.TemporaryDirectory() as folder:
        for clip in itertools.chain(embedded_clips(num_embedded), drawn_clips(NUM_CLIPS - num_embedded)):
            measure(clip, tally, Path(folder))
        for seed, (width, height) in enumerate([(256, 256), (832, 480), (1280, 720)]):
            measure(plain(np.random.default_rng(seed), width, height, 17), plain_tally, Path(folder))
    yield Figure("clips", tally.num_clips)
    for way in WAYS:
        yield Figure(f"read after {way}", share(tally, way), "%", GOALS[way], "at least")
        yield Figure(f"lowest score after {way}", min(tally.scores[way], default=0.0))
    yield Figure("unmarked or with a wrong key", tally.num_unmarked)
    yield Figure("false hits", tally.num_false, goal=0)
    yield Figure("lowest PSNR of brightness", min(tally.decibels), "dB", 42, "at least")
    yield Figure("median PSNR of brightness", statistics.median(tally.decibels), "dB")
    if tally.milliseconds_720p:
        yield Figure("marking a 720p frame", statistics.median(tally.milliseconds_720p), "ms", 12)
    yield Figure("file, marked / unmarked, median", statistics.median(tally.growth))
    yield Figure("file, marked / unmarked, largest", max(tally.growth))
    for way in WAYS:
        yield Figure(f"plain clips: read after {way}", share(plain_tally, way), "%")


def share(tally: Tally, way: str) -> float:
    return 100 * tally.num_read[way] / tally.num_clips


def measure(clip: Frames, tally: Tally, folder: Path) -> None:
    number = secrets.randbits(32)
    watched = Watched(Marker(KEY, number, num_frames=len(clip)).mark)
    marked, unmarked = folder / "marked.mp4", folder / "unmarked.mp4"
    save_mp4(clip, 16, marked, mark=watched)
    save_mp4(clip, 16, unmarked)
    tally.num_clips += 1
    tally.decibels.append(10 * float(np.log10(255**2 / np.mean(watched.squares))))
    tally.growth.append(marked.stat().st_size / unmarked.stat().st_size)
    if min(clip.shape[1:3]) == 720:
        tally.milliseconds_720p.append(1000 * statistics.mean(watched.seconds))
    for way, (crf, scale) in WAYS.items():
        found = read_watermark(encoded_again(marked, crf=crf, scale=scale), [KEY])
        is_read = found is not None and found.id == number
        tally.num_read[way] += is_read
        tally.num_false += found is not None and not is_read
        if found is not None:
            tally.scores[way].append(found.score)
    count_false_hits(marked, unmarked, tally)


def count_false_hits(marked: Path, unmarked: Path, tally: Tally) -> None:
    trials: list[tuple[Path, bytes]] = [(unmarked, KEY)]
    trials += [(marked, secrets.token_bytes(16)) for _ in range(WRONG_KEYS_A_CLIP)]
    for path, keys in itertools.groupby(trials, key=lambda trial: trial[0]):
        chosen = [key for _, key in keys]
        tally.num_unmarked += len(chosen)
        with path.open("rb") as file:
            # With many keys at once a hit of any of them is told.
            tally.num_false += read_watermark(file, chosen) is not None


def encoded_again(path: Path, *, crf: int, scale: Fraction) -> io.BytesIO:
    anew = io.BytesIO()
    with av.open(str(path)) as source, av.open(anew, "w", format="mp4") as target:
        before = source.streams.video[0]
        stream = target.add_stream("libx264", rate=16, options={"crf": str(crf)})
        stream.width, stream.height = (even(int(side * scale)) for side in (before.width, before.height))
        stream.pix_fmt = "yuv420p"
        for frame in source.decode(before):
            target.mux(stream.encode(frame.reformat(stream.width, stream.height, interpolation="AREA")))
        target.mux(stream.encode(None))
    return anew


def even(side: int) -> int:
    return side - side % 2


if __name__ == "__main__":
    raise SystemExit(main())
