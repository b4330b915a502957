"""Still pictures of a video."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

THUMBNAIL_LONG_SIDE = 512
THUMBNAIL_TYPE = "image/webp"


def thumbnail(frames: NDArray[np.uint8]) -> bytes:
    """The middle frame (openings are often still) as a WebP picture of at most 512 pixels a side."""
    picture = Image.fromarray(frames[len(frames) // 2])
    picture.thumbnail((THUMBNAIL_LONG_SIDE, THUMBNAIL_LONG_SIDE), Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    picture.save(encoded, "WEBP", quality=80)
    return encoded.getvalue()
