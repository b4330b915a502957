"""Reads a clip's attributes from its pixels alone; it never sees the prompt.

The shape is right only if it is right in every frame: each frame must hold one connected outline that matches the
same shape's template best and follows it closely. A doubled, torn or wobbling shape is read as no shape.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from model.tiny.render import EDGE_PIXELS, signed_distance
from model.tiny.world import COLOURS, PALETTE, SHAPES, Scene

Array = NDArray[np.float64]

NOTHING = "none"
MAX_OUTLINE_ERROR = 0.01
"""How far every frame's outline may be from its template's, on average along it: 1 % of the frame's side."""
MIN_WHOLE = 0.97
"""Share of the shape's area that its largest connected part must hold in every frame."""
MIN_TRAVEL, MIN_HOP, MAX_REST = 0.25, 0.15, 0.08
"""Shares of the frame: a move covers at least the first, a bounce the second, rest at most the third."""
MIN_AREA_RATIO = 2.2
_PALETTE = np.array([PALETTE[c] for c in COLOURS], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the clip shows; NOTHING where it shows none of the known values."""

    background: str
    colour: str
    shape: str
    motion: str
    outline_error: float
    """The largest distance of any frame's outline from its template's, as a share of the frame's side."""

    def agrees(self, scene: Scene) -> dict[str, bool]:
        """Attribute → whether the clip shows what the scene says."""
        return {
            "background": self.background == scene.background,
            "colour": self.colour == scene.colour,
            "shape": self.shape == scene.shape,
            "motion": self.motion == scene.motion,
        }


def judge(frames: NDArray[np.uint8]) -> Verdict:
    """Read a clip  # f h w 3"""
    clip = frames.astype(np.float64)
    border = np.concatenate([clip[:, :2].reshape(-1, 3), clip[:, -2:].reshape(-1, 3)])
    sides = np.concatenate([clip[:, :, :2].reshape(-1, 3), clip[:, :, -2:].reshape(-1, 3)])
    wall = np.median(np.concatenate([border, sides]), axis=0)
    away = np.linalg.norm(clip - wall, axis=-1)
    background = _nearest(wall)
    # The shape's own colour, without the pixels on its edge that mix both.
    seen = away > 60
    if seen.sum() < 30 * len(clip):
        return Verdict(background, NOTHING, NOTHING, NOTHING, 1.0)
    paint = np.median(clip[seen & (away >= 0.8 * np.median(away[seen]))], axis=0)
    direction = (paint - wall) / float(((paint - wall) ** 2).sum())
    coverage = np.clip((clip - wall) @ direction, 0.0, 1.0)
    coverage[coverage < 0.15] = 0.0
    shape, error = _read_shape(coverage)
    return Verdict(background, _nearest(paint), shape, _read_motion(coverage), error)


def _read_shape(coverage: Array) -> tuple[str, float]:
    errors = np.array([[_outline_error(frame, shape) for shape in SHAPES] for frame in coverage])
    best = int(errors.sum(axis=0).argmin())
    worst = float(errors[:, best].max())
    is_same = bool((errors.argmin(axis=1) == best).all())
    is_whole = all(_largest_share(frame) >= MIN_WHOLE for frame in coverage)
    return (SHAPES[best] if is_same and is_whole and worst <= MAX_OUTLINE_ERROR else NOTHING), worst


def _outline_error(frame: Array, shape: str) -> float:
    """Mean distance between a coverage map's outline and that of the shape of equal centre and area  # h w

    The area between both outlines, divided by the outline's length, as a share of the frame's side.
    """
    area = float(frame.sum())
    if area < 10:
        return 1.0
    row, column = ndimage.center_of_mass(frame)
    unit = _unit_size(shape)
    radius = math.sqrt(area / unit.area)
    template = _template(shape, frame.shape, float(column), float(row), radius)
    return float(np.abs(frame - template).sum()) / (unit.perimeter * radius) / frame.shape[0]


def _template(shape: str, size: tuple[int, ...], column: float, row: float, radius: float) -> Array:
    y, x = (torch.arange(n, dtype=torch.float64) for n in size)
    distance = signed_distance(shape, x[None] - column, row - y[:, None], torch.tensor(radius, dtype=torch.float64))
    return np.asarray((0.5 - distance / EDGE_PIXELS).clamp(0, 1).numpy())


@dataclass(frozen=True, slots=True)
class UnitSize:
    """Area and perimeter of a shape of radius 1."""

    area: float
    perimeter: float


@functools.cache
def _unit_size(shape: str) -> UnitSize:
    """Measured once on a fine grid: what lies inside, and what lies within a thin band around the outline."""
    axis = torch.linspace(-1.5, 1.5, 1501, dtype=torch.float64)
    distance = signed_distance(shape, axis[None], axis[:, None], torch.tensor(1.0, dtype=torch.float64))
    band = 0.01
    return UnitSize(
        area=float((distance < 0).double().mean()) * 9.0,
        perimeter=float((distance.abs() < band).double().mean()) * 9.0 / (2 * band),
    )


def _largest_share(frame: Array) -> float:
    parts, count = ndimage.label(frame > 0, structure=np.ones((3, 3)))
    if count == 0:
        return 0.0
    areas = ndimage.sum_labels(frame, parts, range(1, count + 1))
    return float(np.max(areas) / frame.sum())


def _read_motion(coverage: Array) -> str:
    height, width = coverage.shape[1:]
    area = coverage.sum(axis=(1, 2))
    if area.min() < 10:
        return NOTHING
    centres = np.array([ndimage.center_of_mass(frame) for frame in coverage])
    y, x = centres[:, 0] / height, centres[:, 1] / width
    dx, dy = float(x[-2:].mean() - x[:2].mean()), float(y[-2:].mean() - y[:2].mean())
    growth = float(area[-2:].mean() / area[:2].mean())
    middle = len(y) // 2
    hop = float(max(y[:2].mean(), y[-2:].mean()) - y[middle - 1 : middle + 2].mean())
    if max(growth, 1 / growth) >= MIN_AREA_RATIO:
        return ("grow" if growth > 1 else "shrink") if max(np.ptp(x), np.ptp(y)) < 2 * MAX_REST else NOTHING
    if max(abs(dx), abs(dy)) >= MIN_TRAVEL:
        if min(abs(dx), abs(dy)) >= 2 * MAX_REST:
            return NOTHING
        if abs(dx) > abs(dy):
            return "right" if dx > 0 else "left"
        return "down" if dy > 0 else "up"
    if hop >= MIN_HOP and max(abs(dx), abs(dy)) < 2 * MAX_REST:
        return "bounce"
    return "still" if max(np.ptp(x), np.ptp(y)) < MAX_REST else NOTHING


def _nearest(colour: Array) -> str:
    return COLOURS[int(((_PALETTE - colour) ** 2).sum(-1).argmin())]
