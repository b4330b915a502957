"""Clips to measure a watermark on: the embedded checkpoint's own, and drawn ones at sizes that it does not make."""

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from model.engine import Engine
from model.folder import embedded_path
from model.tiny.evaluate import draw_trials
from worker.media.resize import enlarge

Frames = NDArray[np.uint8]
"""f h w 3, RGB."""

DRAWN_SIZES = ((832, 480), (480, 832), (1280, 720))
DRAWN_LENGTHS = (17, 33, 49, 81)
IN_FLIGHT = 8


def embedded_clips(count: int) -> Iterator[Frames]:
    """Of held-out prompts, at the size that is delivered."""
    engine = Engine.from_pretrained(embedded_path(), device="cpu", dtype="float32")
    trials = draw_trials(count)[:count]
    for start in range(0, count, IN_FLIGHT):
        requests = [
            engine.prepare(engine.card.default_params(trial.prompt, seed=start + place))
            for place, trial in enumerate(trials[start : start + IN_FLIGHT])
        ]
        while in_flight := [request for request in requests if not request.is_denoised]:
            for error in engine.step(in_flight).values():
                raise error
        for request in requests:
            yield enlarge(engine.decode(request).pixels, width=256, height=256)


def drawn_clips(count: int) -> Iterator[Frames]:
    """Of every kind, size and length in turn."""
    kinds = (drifting, still, gradients, grain)
    plans = itertools.cycle(itertools.product(DRAWN_LENGTHS, DRAWN_SIZES, kinds))
    for seed, (num_frames, (width, height), draw) in enumerate(itertools.islice(plans, count)):
        yield draw(np.random.default_rng(seed), width, height, num_frames)


def drifting(rng: np.random.Generator, width: int, height: int, num_frames: int) -> Frames:
    """A camera's way over a landscape of all scales: what a watermark finds hardest."""
    drift = rng.uniform(0, 3), rng.uniform(0, 1.5)
    room = width + int(drift[0] * num_frames) + 1, height + int(drift[1] * num_frames) + 1
    ground = _landscape(rng, *room)
    clip = np.empty((num_frames, height, width, 3), np.uint8)
    for place, frame in enumerate(clip):
        left, top = int(place * drift[0]), int(place * drift[1])
        noise = rng.normal(0, 1.5, frame.shape)
        frame[:] = (ground[top : top + height, left : left + width] + noise).clip(0, 255)
    return clip


def still(rng: np.random.Generator, width: int, height: int, num_frames: int) -> Frames:
    return np.repeat(drifting(rng, width, height, 1), num_frames, axis=0)


def gradients(rng: np.random.Generator, width: int, height: int, num_frames: int) -> Frames:
    """Soft colours with a disc that moves."""
    y, x = (places / np.float32(height) for places in np.ogrid[:height, :width])
    phases, speeds = rng.uniform(0, 6, 3), rng.uniform(2, 8, 3)
    clip = np.empty((num_frames, height, width, 3), np.uint8)
    for place, frame in enumerate(clip):
        for channel, along in enumerate((x, y, x)):
            frame[..., channel] = 128 + 80 * np.sin(speeds[channel] * along + phases[channel] + place / 12)
        frame[(x - 0.3 - place * 0.01) ** 2 + (y - 0.5) ** 2 < 0.02] = 230, 200, 40
    return clip


def grain(rng: np.random.Generator, width: int, height: int, num_frames: int) -> Frames:
    """As noisy as a dark room."""
    x = np.linspace(0, 4 * width / height, width)
    clip = np.empty((num_frames, height, width, 3), np.uint8)
    for place, frame in enumerate(clip):
        noise = rng.normal(0, 25, (height // 2, width // 2, 3)).repeat(2, 0).repeat(2, 1)
        frame[:] = (110 + 60 * np.sin(x + place / 9)[:, None] + noise).clip(0, 255)
    return clip


def plain(rng: np.random.Generator, width: int, height: int, num_frames: int) -> Frames:
    """One colour."""
    return np.full((num_frames, height, width, 3), rng.uniform(40, 220, 3), np.uint8)


def _landscape(rng: np.random.Generator, width: int, height: int) -> NDArray[np.float64]:
    """h w 3, quieter the finer, as photographs are."""
    steepness = rng.uniform(1.2, 1.9)
    size = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)) + 0.004
    spectrum = np.fft.rfft2(rng.normal(size=(height, width))) / size**steepness
    channels = [np.fft.irfft2(spectrum * np.exp(1j * turn), s=(height, width)) for turn in (0, 0.3, 0.6)]
    ground = np.stack(channels, -1)
    return 120 + rng.uniform(20, 45) * (ground - ground.mean()) / ground.std()
