"""What runs side by side gives the very bits that it gives alone, and one that fails harms no other."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch

from model.engine import Engine
from model.errors import Cancelled
from model.frames import Frames
from model.side_by_side import side_by_side


def test_every_result_is_in_its_place_and_so_is_what_failed() -> None:
    def fail() -> int:
        raise ValueError("no")

    first, second, third = side_by_side([lambda: 1, fail, lambda: 3])

    assert (first.result(), third.result()) == (1, 3)
    with pytest.raises(ValueError, match="no"):
        second.result()


def test_threads_of_the_caller_stay_as_they_were() -> None:
    before = torch.get_num_threads()
    seen = [future.result() for future in side_by_side([torch.get_num_threads] * before)]
    assert seen == [1] * before
    assert torch.get_num_threads() == before


def test_videos_decoded_side_by_side_are_those_decoded_alone(engine: Engine) -> None:
    clips = [engine.card.default_params("a red circle", seed=seed) for seed in range(3)]
    requests = [engine.prepare(clip) for clip in clips]
    while in_flight := [request for request in requests if not request.is_denoised]:
        assert engine.step(in_flight) == {}

    def stop() -> Frames:
        raise Cancelled

    decodes: list[Callable[[], Frames]] = [*(partial(engine.decode, request) for request in requests), stop]
    *decoded, stopped = engine.decode_all(decodes, [*clips, clips[0]])

    for request, frames in zip(requests, decoded, strict=True):
        assert np.array_equal(frames.result().pixels, engine.decode(request).pixels)
    assert isinstance(stopped.exception(), Cancelled)
