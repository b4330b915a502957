"""The world that the embedded checkpoint can draw: one flat shape that moves on a flat background.

Pure data and arithmetic: no torch, no captions, no pixels.
"""

import math
import random
from dataclasses import dataclass

PALETTE: dict[str, tuple[int, int, int]] = {
    "red": (215, 40, 40),
    "green": (40, 165, 60),
    "blue": (40, 75, 220),
    "yellow": (245, 220, 50),
    "purple": (150, 50, 190),
    "cyan": (70, 205, 225),
    "white": (245, 245, 245),
    "black": (18, 18, 18),
}
COLOURS = tuple(PALETTE)
SHAPES = ("circle", "square", "triangle", "star")
MOTIONS = ("right", "left", "up", "down", "bounce", "grow", "shrink", "still")
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "background": COLOURS,
    "colour": COLOURS,
    "shape": SHAPES,
    "motion": MOTIONS,
}
NUM_FRAMES = 17
SIDE_PIXELS = 64
CELL_FRAMES, CELL_PIXELS = 4, 8
"""What one number of each latent channel stands for, in time and along a side; the first frame is a cell of its own."""
RADIUS = 13.0
SMALL_RADIUS, LARGE_RADIUS = 10.0, 17.0
CENTRE = 32
# Every path advances by whole cells a latent frame, so that a moving shape looks the same in each.
TRAVEL, HOP = 32, 16
START, END = 16, 48
# A denoiser's token is two cells wide: resting places of one phase leave it half as many looks of a shape to learn.
RESTING_PLACES = (16, 32, 48)


@dataclass(frozen=True, slots=True)
class Scene:
    """What a clip shows. Every field is one of the values that ATTRIBUTES lists under its name."""

    background: str
    colour: str
    shape: str
    motion: str

    @property
    def is_held_out(self) -> bool:
        """True for a quarter of all (shape, colour, motion) triples: no training stage ever sees them.

        Each pair of two attributes stays seen; only the combination of three is new.
        """
        return (SHAPES.index(self.shape) + COLOURS.index(self.colour) + MOTIONS.index(self.motion)) % 4 == 0

    def value(self, attribute: str) -> str:
        match attribute:
            case "background":
                return self.background
            case "colour":
                return self.colour
            case "shape":
                return self.shape
            case "motion":
                return self.motion
        raise KeyError(attribute)


DEFAULT_SCENE = Scene("white", "blue", "circle", "still")
"""What a prompt that says nothing shows: one clean clip, where a mixture of all values would be a blob."""


def default_values(scene: Scene) -> dict[str, str]:
    """Attribute → what a prompt that names the scene's other attributes shows; a shape never fades into its wall."""
    return {
        "background": "black" if scene.colour == DEFAULT_SCENE.background else DEFAULT_SCENE.background,
        "colour": "yellow" if scene.background == DEFAULT_SCENE.colour else DEFAULT_SCENE.colour,
        "shape": DEFAULT_SCENE.shape,
        "motion": DEFAULT_SCENE.motion,
    }


@dataclass(frozen=True, slots=True)
class Path:
    """Where the shape goes, in pixels, y down: from (x, y) by (dx, dy), hop upwards, radius from r0 to r1."""

    x: float
    y: float
    dx: float = 0.0
    dy: float = 0.0
    hop: float = 0.0
    r0: float = RADIUS
    r1: float = RADIUS

    def at(self, progress: float) -> tuple[float, float, float]:
        """(x, y, radius) at progress 0..1; a hop eases in and out, and is half done at a quarter of the way."""
        u = progress
        y = self.y + self.dy * u - self.hop * math.sin(math.pi * u) ** 2
        return self.x + self.dx * u, y, self.r0 + (self.r1 - self.r0) * u


def draw_scene(rng: random.Random, *, held_out: bool) -> Scene:
    """A scene drawn uniformly from the training world, or from the held-out one."""
    while True:
        background = rng.choice(COLOURS)
        colour = rng.choice([c for c in COLOURS if c != background])
        scene = Scene(background, colour, rng.choice(SHAPES), rng.choice(MOTIONS))
        if scene.is_held_out == held_out:
            return scene


def draw_training_scene(rng: random.Random, *, star_share: float, default_share: float = 0.0) -> Scene:
    """A training scene. Stars, whose thin arms are the hardest to draw, come more often than one time in four.

    A share of the scenes is the default one, which otherwise were one in thousands.
    """
    if rng.random() < default_share:
        return DEFAULT_SCENE
    is_star = rng.random() < star_share
    while True:
        scene = draw_scene(rng, held_out=False)
        if (scene.shape == "star") == is_star:
            return scene


def held_out_scenes(rng: random.Random, *, repeats: int) -> list[Scene]:
    """Every held-out (shape, colour, motion) triple `repeats` times, each time on another background."""
    scenes = []
    for shape in SHAPES:
        for colour in COLOURS:
            for motion in MOTIONS:
                backgrounds = rng.sample([c for c in COLOURS if c != colour], repeats)
                triple = [Scene(background, colour, shape, motion) for background in backgrounds]
                scenes += [scene for scene in triple if scene.is_held_out]
    return scenes


def draw_path(scene: Scene, rng: random.Random) -> Path:
    """A path for the scene's motion. Places differ; what tells the motion is the displacement."""
    across = float(rng.choice(RESTING_PLACES))
    match scene.motion:
        case "right":
            return Path(START, across, dx=TRAVEL)
        case "left":
            return Path(END, across, dx=-TRAVEL)
        case "down":
            return Path(across, START, dy=TRAVEL)
        case "up":
            return Path(across, END, dy=-TRAVEL)
        case "bounce":
            return Path(across, END, hop=HOP)
        case "grow":
            return Path(CENTRE, CENTRE, r0=SMALL_RADIUS, r1=LARGE_RADIUS)
        case "shrink":
            return Path(CENTRE, CENTRE, r0=LARGE_RADIUS, r1=SMALL_RADIUS)
        case "still":
            return Path(across, float(rng.choice(RESTING_PLACES)))
    raise KeyError(scene.motion)
