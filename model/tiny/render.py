"""Scenes to pixels: anti-aliased signed-distance shapes. Knows no captions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.tiny.world import NUM_FRAMES, PALETTE, SIDE_PIXELS, Path, Scene

EDGE_PIXELS = 1.2


@dataclass(frozen=True, slots=True)
class Outline:
    """A regular outline for radius 1: `corners` tips at `outer`, and the edge at `inner` half-way between two."""

    corners: int
    outer: float
    inner: float
    turn: float = 0.0
    """Angle of the first tip from straight up, in radians."""


OUTLINES = {
    "square": Outline(4, 0.89 * math.sqrt(2), 0.89, turn=math.pi / 4),
    "triangle": Outline(3, 1.22, 0.61),
    "star": Outline(5, 1.22, 0.54),
}


def signed_distance(shape: str, x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """Distance to the outline in the units of x, y (y up) and radius; negative inside. Shapes broadcast.

    The angle is folded into half a corner, where the outline is one straight line.
    """
    reach = torch.hypot(x, y)
    if shape == "circle":
        return reach - radius
    outline = OUTLINES[shape]
    period = 2 * math.pi / outline.corners
    angle = torch.atan2(x, y) - outline.turn
    folded = (torch.remainder(angle + period / 2, period) - period / 2).abs()
    along, aside = reach * folded.cos(), reach * folded.sin()
    tip = outline.outer
    valley = (outline.inner * math.cos(period / 2), outline.inner * math.sin(period / 2))
    edge = (valley[0] - tip, valley[1])
    length = math.hypot(*edge)
    return ((along - tip * radius) * edge[1] - aside * edge[0]) / length


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a clip that is rendered: `side` pixels of `num_frames` frames."""

    num_frames: int = NUM_FRAMES
    side: int = SIDE_PIXELS
    frame: int = 0
    row: int = 0
    column: int = 0

    def shows(self, path: Path) -> bool:
        """Does a shape on the path reach in, half of its radius or more, in any frame?"""
        for x, y, radius in self.places(path):
            aside = x - min(max(x, self.column), self.column + self.side)
            above = y - min(max(y, self.row), self.row + self.side)
            if math.hypot(aside, above) <= radius / 2:
                return True
        return False

    def places(self, path: Path) -> list[tuple[float, float, float]]:
        """The shape's centre and radius in each frame, in pixels."""
        return [path.at(f / (NUM_FRAMES - 1)) for f in range(self.frame, self.frame + self.num_frames)]


@torch.no_grad()
def render(scenes: Sequence[Scene], paths: Sequence[Path], windows: Sequence[Window] | None = None) -> Tensor:
    """Clips in [-1, 1], whole ones or windows of one size  # b 3 f h w"""
    windows = windows or [Window()] * len(scenes)
    axis = torch.arange(SIDE_PIXELS) + 0.5
    clips = torch.empty(len(scenes), 3, windows[0].num_frames, windows[0].side, windows[0].side)
    for clip, scene, path, window in zip(clips, scenes, paths, windows, strict=True):
        x, y, radius = torch.tensor(window.places(path)).unsqueeze(-1).unsqueeze(-1).unbind(1)
        rows, columns = (axis[start : start + window.side] for start in (window.row, window.column))
        distance = signed_distance(scene.shape, columns - x, y - rows[:, None], radius)
        alpha = (0.5 - distance / EDGE_PIXELS).clamp(0, 1)
        background, colour = (
            torch.tensor(PALETTE[c])[:, None, None, None] / 127.5 - 1 for c in (scene.background, scene.colour)
        )
        clip.copy_(torch.lerp(background.expand(3, 1, 1, 1), colour, alpha))
    return clips
