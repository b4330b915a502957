"""An imperceptible mark in the pictures themselves: an asset's number, spread over middle frequencies of every frame.

A spread-spectrum code (Cox et al., "Secure Spread Spectrum Watermarking for Multimedia", IEEE TIP 1997): each byte of
the number and its CRC is one of 256 Walsh functions, scattered by a key over DCT coefficients that survive compression
and half the size. All frames carry the same code, so that a detector adds them up. Crops and rotations destroy it.
"""

import hashlib
import heapq
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Luma = NDArray[np.uint8]
"""A frame's brightness, h w, BT.709 limited range."""

Floats = NDArray[np.float32]

ID_BYTES, CRC_BYTES = 4, 2
NUM_SYMBOLS = ID_BYTES + CRC_BYTES
CHIPS = 256
"""Of a symbol: the length of a Walsh function."""

LOWEST, HIGHEST = 16, 120
"""Of the shorter side, in half periods: coarser the picture itself is loudest, finer nothing survives half the size."""

MIN_SIDE = 2 * HIGHEST
"""In pixels: of a smaller picture no half would hold all frequencies. bench/watermark.py measures from 256 on."""

FRAMES_A_PATTERN = 8
"""That get the very same pattern: it costs little then, and coders that copy still parts copy it too."""

BLACK, WHITE = 16, 235
LOUDEST = 1.95
"""The pattern's largest standard deviation, in levels: 42 dB."""

SHAPING = 0.5
"""The pattern follows the picture's own loudness at each frequency to the power of -SHAPING."""

QUIET_LEVELS = 0.5
"""Quieter frequencies count as if they were so loud."""

MAX_WORDS = 32
"""Tried against the CRC, the likeliest first."""

MIN_SCORE = 3.8
"""That a number needs beside its CRC. What chance alone makes stays near 2.8."""


@dataclass(frozen=True, slots=True)
class Found:
    """A mark that was read."""

    id: int
    """32 bits."""

    score: float
    """How far the symbols stand out, in standard deviations, the mean over them."""


class Marker:
    """Marks the frames of one clip, in order, all of one size. key: at least 16 bytes; number: 32 bits."""

    def __init__(self, key: bytes, number: int, *, num_frames: int) -> None:
        self._key = key
        self._symbols = _symbols(number)
        self._num_frames = num_frames
        self._num_marked = 0
        self._pattern = np.zeros((0, 0), np.int16)

    def mark(self, luma: Luma) -> None:
        """In place. A picture with a side under MIN_SIDE stays as it is."""
        if min(luma.shape) < MIN_SIDE:
            return
        if self._num_marked % FRAMES_A_PATTERN == 0:
            self._pattern = self._pattern_for(luma)
        self._num_marked += 1
        np.clip(luma + self._pattern, BLACK, WHITE, out=luma, casting="unsafe")

    def _pattern_for(self, luma: Luma) -> NDArray[np.int16]:
        code = _code(self._key, _orientation(luma.shape))
        spectrum = _spectrum(luma, code.shape)
        loudness = _loudness(spectrum, luma.size)
        gains = _gains(code.scores(_whitened(spectrum, loudness)), self._symbols)
        shaped = code.spectrum(self._symbols, gains) / loudness**SHAPING
        rows, columns = (_basis(count, length) for count, length in zip(code.shape, luma.shape, strict=True))
        pattern = rows.T @ shaped @ columns
        # Parseval: the functions are orthonormal.
        deviation = math.sqrt(float((shaped**2).sum()) / luma.size)
        strength = _strength(self._num_frames, luma.size) * _covering(loudness, luma.size)
        levels: NDArray[np.int16] = np.rint(pattern * (min(LOUDEST, strength) / deviation)).astype(np.int16)
        return levels


def _strength(num_frames: int, num_pixels: int) -> float:
    """The pattern's standard deviation in levels: small and short clips have fewer places for the same number."""
    return 2.25 * float((65_536 / num_pixels) ** 0.15 * (17 / num_frames) ** 0.05)


def _covering(loudness: Floats, num_pixels: int) -> float:
    """0.7..1: a plain picture hides less, and drowns less of the code."""
    usual = 10 * _noise(num_pixels) / QUIET_LEVELS
    return float(np.clip((np.median(loudness) / usual) ** 0.15, 0.7, 1))


class Detector:
    """Reads the number of one clip, frame by frame, with each of several keys."""

    def __init__(self, keys: Iterable[bytes]) -> None:
        self._keys = list(dict.fromkeys(keys))
        self._all: dict[bytes, Floats] = {}
        self._whole: dict[bytes, Floats] = {}
        """Of frames that were coded by themselves: those between them hardly keep a mark where much moves."""

    def add(self, luma: Luma, *, is_whole: bool) -> None:
        """is_whole: the frame was coded by itself. A picture too small for any mark tells nothing."""
        if 2 * min(luma.shape) < MIN_SIDE:
            return
        orientation = _orientation(luma.shape)
        spectrum = _spectrum(luma, _grid_shape(orientation))
        whitened = _whitened(spectrum, _loudness(spectrum, luma.size))
        for key in self._keys:
            scores = _code(key, orientation).scores(whitened)
            for totals in (self._all, self._whole) if is_whole else (self._all,):
                totals[key] = totals[key] + scores if key in totals else scores

    def found(self) -> Found | None:
        """What was read so far. Only with a right CRC and a score of at least MIN_SCORE it is a number."""
        readings = (_read(scores) for totals in (self._all, self._whole) for scores in totals.values())
        return max((found for found in readings if found is not None), key=lambda found: found.score, default=None)


class Code:
    """One key's code for pictures of one orientation."""

    def __init__(self, key: bytes, orientation: str) -> None:
        self.shape = _grid_shape(orientation)
        band = np.flatnonzero(_band(self.shape))
        seed = hashlib.sha256(b"wanserve watermark/" + orientation.encode() + b"/" + key).digest()
        rng = np.random.Generator(np.random.PCG64(int.from_bytes(seed, "big")))
        rng.shuffle(band)
        repeats = len(band) // (NUM_SYMBOLS * CHIPS)
        size = NUM_SYMBOLS, repeats, CHIPS
        self._places = band[: math.prod(size)].reshape(size)
        self._signs = rng.choice(np.array([-1, 1], np.float32), size)

    def scores(self, whitened: Floats) -> Floats:
        """How much of each symbol's 256 values is in a spectrum: NUM_SYMBOLS 256."""
        chips = (whitened.ravel()[self._places] * self._signs).sum(1)
        return np.asarray(chips @ _walsh() / math.sqrt(self._places[0].size), np.float32)

    def spectrum(self, symbols: NDArray[np.intp], gains: Floats) -> Floats:
        """The code of a number, each symbol as strong as its gain."""
        spread = np.zeros(self.shape, np.float32)
        spread.ravel()[self._places] = self._signs * _walsh()[symbols][:, None, :] * gains[:, None, None]
        return spread


@lru_cache(maxsize=32)
def _code(key: bytes, orientation: str) -> Code:
    return Code(key, orientation)


def _read(scores: Floats) -> Found | None:
    deviation = np.median(np.abs(scores), axis=1, keepdims=True) / 0.6745 + 1e-9
    standing_out = np.asarray(scores / deviation, np.float32)
    for symbols in itertools.islice(_likeliest(standing_out), MAX_WORDS):
        score = float(standing_out[np.arange(NUM_SYMBOLS), symbols].mean())
        if score < MIN_SCORE:
            return None
        word = bytes(symbols)
        if _crc16(word[:ID_BYTES]) == int.from_bytes(word[ID_BYTES:], "big"):
            return Found(int.from_bytes(word[:ID_BYTES], "big"), score)
    return None


def _likeliest(scores: Floats) -> Iterator[tuple[int, ...]]:
    """Words by falling sum of their symbols' scores."""
    order = np.argsort(-scores, axis=1)[:, :MAX_WORDS]
    losses = np.take_along_axis(scores, order[:, :1], 1) - np.take_along_axis(scores, order, 1)
    first = (0,) * NUM_SYMBOLS
    waiting, seen = [(0.0, first)], {first}
    while waiting:
        loss, ranks = heapq.heappop(waiting)
        yield tuple(int(order[symbol, rank]) for symbol, rank in enumerate(ranks))
        for symbol, rank in enumerate(ranks):
            after = (*ranks[:symbol], rank + 1, *ranks[symbol + 1 :])
            if rank + 1 < order.shape[1] and after not in seen:
                seen.add(after)
                more = float(losses[symbol, rank + 1] - losses[symbol, rank])
                heapq.heappush(waiting, (loss + more, after))


def _symbols(number: int) -> NDArray[np.intp]:
    word = number.to_bytes(ID_BYTES, "big")
    return np.frombuffer(word + _crc16(word).to_bytes(CRC_BYTES, "big"), np.uint8).astype(np.intp)


def _crc16(word: bytes) -> int:
    """CRC-16/CCITT-FALSE."""
    crc = 0xFFFF
    for byte in word:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


def _gains(scores: Floats, symbols: NDArray[np.intp]) -> Floats:
    """A symbol that the picture itself contradicts gets more, one that it says already gets less."""
    index = np.arange(NUM_SYMBOLS)
    others = scores.copy()
    others[index, symbols] = -np.inf
    lead = scores[index, symbols] - others.max(1)
    return np.asarray(np.clip((8 - lead) / 8, 0.5, 2), np.float32)


def _whitened(spectrum: Floats, loudness: Floats) -> Floats:
    """Every coefficient against its neighbours' size, so that the loud ones do not drown the others."""
    return np.asarray(np.clip(spectrum / loudness, -2, 2))


def _loudness(spectrum: Floats, num_pixels: int) -> Floats:
    """The mean size of coefficients around each, never zero."""
    rows, columns = (_smoothing(length) for length in spectrum.shape)
    return np.asarray(rows @ np.abs(spectrum) @ columns.T + _noise(num_pixels))


def _noise(num_pixels: int) -> float:
    """A coefficient of what counts as noise, at any size of the picture."""
    return QUIET_LEVELS * math.sqrt(num_pixels / 147_456)


def _spectrum(luma: Luma, shape: tuple[int, int]) -> Floats:
    """The DCT-II's lowest coefficients, as many as shape says."""
    rows, columns = (_basis(count, length) for count, length in zip(shape, luma.shape, strict=True))
    return np.asarray(rows @ luma.astype(np.float32) @ columns.T)


def _orientation(shape: Sequence[int]) -> str:
    """Survives a change of size."""
    height, width = shape
    if width > 1.25 * height:
        return "landscape"
    return "portrait" if height > 1.25 * width else "square"


def _grid_shape(orientation: str) -> tuple[int, int]:
    """Coefficients by row and column: of the shorter side HIGHEST, of the longer one as many a pixel at 16:9."""
    long = HIGHEST * 16 // 9
    return {"landscape": (HIGHEST, long), "portrait": (long, HIGHEST), "square": (HIGHEST, HIGHEST)}[orientation]


def _band(shape: tuple[int, int]) -> NDArray[np.bool_]:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    radius = np.hypot(rows * (HIGHEST / shape[0]), columns * (HIGHEST / shape[1]))
    return np.asarray((radius >= LOWEST) & (radius < HIGHEST))


@lru_cache(maxsize=32)
def _basis(count: int, length: int) -> Floats:
    """The first DCT-II functions over so many pixels, orthonormal: count length."""
    order, place = np.ogrid[:count, :length]
    basis = np.cos(np.pi * order * (place + 0.5) / length) * math.sqrt(2 / length)
    basis[0] /= math.sqrt(2)
    return basis.astype(np.float32)


@lru_cache(maxsize=1)
def _walsh() -> Floats:
    walsh = np.ones((1, 1), np.float32)
    while len(walsh) < CHIPS:
        walsh = np.block([[walsh, walsh], [walsh, -walsh]])
    return np.asarray(walsh, np.float32)


@lru_cache(maxsize=8)
def _smoothing(length: int) -> Floats:
    """A Gaussian of four coefficients, as a matrix."""
    distance = np.arange(length)[:, None] - np.arange(length)
    weights = np.exp(-((distance / 4) ** 2) / 2)
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)
