"""A decoded picture's brightness as an array."""

from typing import Any, cast

import av
import numpy as np
from numpy.typing import NDArray


def luma_of(picture: av.VideoFrame) -> NDArray[np.uint8]:
    """Of a planar frame of eight bits, h w, where it lies: who writes there changes the picture."""
    plane = cast(Any, picture.planes[0])
    rows: NDArray[np.uint8] = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    return rows[:, : plane.width]
