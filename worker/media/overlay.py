"""What a viewer sees on a finished clip: a label's text and a logo, drawn once and laid over frames."""

import io
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pylopdf_fonts_zh_cn
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from service.jobs.record import LabelPosition, VisibleLabel

MIN_GLYPH_SHARE = 0.05
"""Of the frame's short side: the least height of a label's characters (GB 45438-2025)."""

LOGO_SHARE = 0.12
"""Of the frame's short side: a logo's height; and no wider than LOGO_WIDTH of the frame."""

LOGO_WIDTH = 0.4
MARGIN_SHARE = 0.02
SOLID = 200
"""From this coverage on (of 255), a pixel counts as a letter's."""

FLAT = 0.4
"""Of the font's size: characters that are lower by nature (一, ~) do not decide it."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """A picture at its place in the frame, premultiplied so that laying it over takes one product and one sum."""

    colour: NDArray[np.uint16]
    """h w 3, each channel times alpha: 0..65025."""

    keep: NDArray[np.uint16]
    """h w 1, what is left of the frame: 255 - alpha."""

    top: int
    left: int

    @classmethod
    def of(cls, picture: Image.Image, *, position: LabelPosition, width: int, height: int, opacity: float) -> "Overlay":
        """picture: RGBA; made smaller where it does not fit into a frame of width x height, margins included."""
        margin = _margin(width, height)
        room = max(1, width - 2 * margin), max(1, height - 2 * margin)
        if picture.width > room[0] or picture.height > room[1]:
            picture = picture.copy()
            picture.thumbnail(room)
        rgba = np.asarray(picture.convert("RGBA"), np.uint16)
        alpha = np.rint(rgba[..., 3:] * opacity).astype(np.uint16)
        return cls(
            colour=rgba[..., :3] * alpha,
            keep=255 - alpha,
            top=margin if position.startswith("top") else height - margin - picture.height,
            left=margin if position.endswith("left") else width - margin - picture.width,
        )

    def lay_over(self, frames: NDArray[np.uint8]) -> None:
        """Change frames (f h w 3) in place, and of them only this overlay's rectangle."""
        height, width = self.keep.shape[:2]
        added = self.colour + np.uint16(128)
        mixed, high = np.empty_like(added), np.empty_like(added)
        for frame in frames:
            ground = frame[self.top : self.top + height, self.left : self.left + width]
            # At most 255 * 255 + 128, which 16 bits hold; then a rounded division by 255.
            np.multiply(ground, self.keep, out=mixed)
            mixed += added
            mixed += np.right_shift(mixed, 8, out=high)
            ground[:] = np.right_shift(mixed, 8, out=mixed)


def draw_label(frames: NDArray[np.uint8], label: VisibleLabel, *, fps: int, logo: bytes | None = None) -> None:
    """Draws a label and its logo on frames (f h w 3), in place. logo: a PNG file, where the label names one."""
    height, width = frames.shape[1:3]
    if logo is not None:
        with Image.open(io.BytesIO(logo), formats=("PNG",)) as picture:
            overlay = logo_overlay(picture, width=width, height=height, position=label.logo_position)
        overlay.lay_over(frames)
    if label.text is not None:
        first = len(frames) if label.seconds is None else math.ceil(label.seconds * fps)
        overlay = text_overlay(label.text, width=width, height=height, position=label.position, opacity=label.opacity)
        overlay.lay_over(frames[:first])


@lru_cache(maxsize=32)
def text_overlay(
    text: str, *, width: int, height: int, position: LabelPosition = "bottom-right", opacity: float = 1.0
) -> Overlay:
    """White letters with a black outline, legible on any ground; the lowest has MIN_GLYPH_SHARE of the short side.

    What is too wide for the frame goes on in the next line. Only in tiny frames letters may be smaller.
    """
    font = _font(text, least_pixels=MIN_GLYPH_SHARE * min(width, height))
    stroke = max(1, round(font.size / 16))
    lines = _wrapped(text, font, width - 2 * _margin(width, height) - 2 * stroke - 2)
    probe = ImageDraw.Draw(Image.new("L", (1, 1)))
    left, top, right, bottom = probe.multiline_textbbox((0, 0), lines, font, stroke_width=stroke)
    picture = Image.new("RGBA", (int(right - left) + 1, int(bottom - top) + 1), (0, 0, 0, 0))
    ImageDraw.Draw(picture).multiline_text(
        (-left, -top), lines, (255, 255, 255, 255), font, stroke_width=stroke, stroke_fill=(0, 0, 0, 255)
    )
    return Overlay.of(picture, position=position, width=width, height=height, opacity=opacity)


def logo_overlay(picture: Image.Image, *, width: int, height: int, position: LabelPosition) -> Overlay:
    """LOGO_SHARE of the short side high, unless that is too wide."""
    room = LOGO_SHARE * min(width, height), LOGO_WIDTH * width
    scale = min(room[0] / picture.height, room[1] / picture.width)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    # Premultiplied: what is fully transparent must not tint its neighbours.
    scaled = picture.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")
    return Overlay.of(scaled, position=position, width=width, height=height, opacity=1.0)


def _wrapped(text: str, font: ImageFont.FreeTypeFont, pixels: int) -> str:
    lines: list[str] = []
    for line in text.split("\n"):
        lines.append("")
        for character in line:
            if font.getlength(lines[-1] + character) > pixels:
                lines.append("")
            lines[-1] += character
    return "\n".join(line.strip() for line in lines)


def _font(text: str, *, least_pixels: float) -> ImageFont.FreeTypeFont:
    letters = {character for character in text if character.isalnum()}
    size = max(8, int(least_pixels))
    # Hinting rounds each glyph by itself, so the size is found by measuring.
    while True:
        font = ImageFont.truetype(pylopdf_fonts_zh_cn.sans_path(), size)
        heights = [rows for rows in (_solid_rows(letter, font) for letter in letters) if rows >= FLAT * size]
        if min(heights, default=0) >= least_pixels or size >= 4 * least_pixels + 8:
            return font
        size += 1


def _solid_rows(character: str, font: ImageFont.FreeTypeFont) -> int:
    """The height of a character's box without the faint rows of antialiasing, which getbbox counts."""
    left, top, right, bottom = font.getbbox(character)
    canvas = Image.new("L", (int(right - left) + 2, int(bottom - top) + 2))
    ImageDraw.Draw(canvas).text((1 - left, 1 - top), character, 255, font)
    return int((np.asarray(canvas).max(axis=1) > SOLID).sum())


def _margin(width: int, height: int) -> int:
    return max(2, round(MARGIN_SHARE * min(width, height)))
