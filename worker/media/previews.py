"""Still pictures of a video."""

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

THUMBNAIL_LONG_SIDE = 512
PICTURE_TYPE = "image/webp"
SPRITESHEET_FRAMES = 16
SPRITESHEET_COLUMNS = 4
SPRITE_LONG_SIDE = 160
PREVIEW_LONG_SIDE = 256
"""A running job's picture has a pixel a latent site; it is enlarged to this many."""


def thumbnail(frames: NDArray[np.uint8]) -> bytes:
    """The middle frame (openings are often still) as a WebP picture of at most 512 pixels a side."""
    picture = Image.fromarray(frames[len(frames) // 2])
    picture.thumbnail((THUMBNAIL_LONG_SIDE, THUMBNAIL_LONG_SIDE), Image.Resampling.LANCZOS)
    return _webp(picture, quality=80)


def spritesheet(frames: NDArray[np.uint8]) -> bytes:
    """Up to 16 evenly spaced frames, first and last included, row by row in a grid four wide, as one WebP picture."""
    chosen = np.linspace(0, len(frames) - 1, min(len(frames), SPRITESHEET_FRAMES)).round().astype(int)
    sprites = [_sprite(frames[index]) for index in chosen]
    columns = min(len(sprites), SPRITESHEET_COLUMNS)
    width, height = sprites[0].size
    sheet = Image.new("RGB", (columns * width, math.ceil(len(sprites) / columns) * height))
    for place, sprite in enumerate(sprites):
        row, column = divmod(place, columns)
        sheet.paste(sprite, (column * width, row * height))
    return _webp(sheet, quality=75)


def preview(frames: NDArray[np.uint8]) -> bytes:
    """The middle frame f h w 3 of a job under way as a WebP picture, some kilobytes."""
    picture = Image.fromarray(frames[len(frames) // 2])
    scale = PREVIEW_LONG_SIDE / max(picture.size)
    size = round(picture.width * scale), round(picture.height * scale)
    return _webp(picture.resize(size, Image.Resampling.BICUBIC), quality=60)


def _sprite(frame: NDArray[np.uint8]) -> Image.Image:
    picture = Image.fromarray(frame)
    picture.thumbnail((SPRITE_LONG_SIDE, SPRITE_LONG_SIDE), Image.Resampling.LANCZOS)
    return picture


def _webp(picture: Image.Image, *, quality: int) -> bytes:
    encoded = io.BytesIO()
    picture.save(encoded, "WEBP", quality=quality)
    return encoded.getvalue()
