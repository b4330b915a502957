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


@torch.no_grad()
def render(scenes: Sequence[Scene], paths: Sequence[Path]) -> Tensor:
    """Clips in [-1, 1]  # b 3 f h w"""
    axis = torch.arange(SIDE_PIXELS) + 0.5
    clips = torch.empty(len(scenes), 3, NUM_FRAMES, SIDE_PIXELS, SIDE_PIXELS)
    for clip, scene, path in zip(clips, scenes, paths, strict=True):
        places = torch.tensor([path.at(f / (NUM_FRAMES - 1)) for f in range(NUM_FRAMES)])
        x, y, radius = (places[:, i, None, None] for i in range(3))
        distance = signed_distance(scene.shape, axis - x, y - axis[:, None], radius)
        alpha = (0.5 - distance / EDGE_PIXELS).clamp(0, 1)
        background, colour = (
            torch.tensor(PALETTE[c])[:, None, None, None] / 127.5 - 1 for c in (scene.background, scene.colour)
        )
        clip.copy_(torch.lerp(background.expand(3, 1, 1, 1), colour, alpha))
    return clips
