"""Videos decoded together get the very bits that they get alone, and one that ends early harms no other."""

import gc
import itertools
import weakref
from collections.abc import Container, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan

from model import decoding
from model.decoding import Decode, stacks_of
from model.engine import Engine
from model.errors import Cancelled, OutOfMemory
from model.progress import Progress
from model.request import Request


@pytest.fixture(scope="module")
def requests(engine: Engine) -> list[Request]:
    """Denoised: three of one size, two of another, in turns."""
    sizes = [engine.card.native_sizes[0], (48, 64)]
    clips = [
        replace(
            engine.card.default_params(f"a red circle, take {seed}", seed=seed),
            width=width,
            height=height,
            num_frames=9,
            num_inference_steps=4,
        )
        for seed, (width, height) in enumerate(itertools.islice(itertools.cycle(sizes), 5))
    ]
    made = [engine.prepare(clip) for clip in clips]
    while in_flight := [request for request in made if not request.is_denoised]:
        assert engine.step(in_flight) == {}
    return made


@pytest.fixture(scope="module")
def alone(engine: Engine, requests: list[Request]) -> list[np.ndarray]:
    return [engine.decode(request).pixels for request in requests]


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_videos_decoded_together_are_those_decoded_alone(
    engine: Engine, requests: list[Request], alone: list[np.ndarray]
) -> None:
    decodes = [Decode(request) for request in requests]
    assert [len(stack) for stack in stacks_of(decodes, shape=engine.shape, vae=engine._parts.vae)] == [3, 2]

    for future, pixels in zip(engine.decode_all(decodes), alone, strict=True):
        assert np.array_equal(future.result().pixels, pixels)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("size", [(8, 6), (24, 16)], ids=["small frames", "large frames"])
@torch.inference_mode()
def test_not_even_the_rounding_of_floats_differs(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    """Pixels of 256 levels would hide it."""
    monkeypatch.setattr("model.vae._pixels", lambda chunk: chunk.clone())
    vae = engine._parts.vae
    latents = torch.randn(3, 16, 2, *size, generator=torch.Generator().manual_seed(1))

    together = torch.cat(list(decoding.decode_stack(vae, latents)), dim=2)

    for one, video in zip(latents.split(1), together.split(1), strict=True):
        assert torch.equal(torch.cat(list(decoding.decode_stack(vae, one)), dim=2), video)


def test_one_that_is_cancelled_or_whose_callback_fails_ends_by_itself(
    engine: Engine, requests: list[Request], alone: list[np.ndarray]
) -> None:
    seen: list[int] = []

    def fail(progress: Progress) -> None:
        raise KeyError("nobody listens")

    first, second, third = requests[::2]
    kept, cancelled, broken = engine.decode_all(
        [
            Decode(first),
            Decode(second, lambda progress: seen.append(progress.completed_frames), lambda: len(seen) == 2),
            Decode(third, fail),
        ]
    )

    assert np.array_equal(kept.result().pixels, alone[0])
    assert isinstance(cancelled.exception(), Cancelled)
    assert isinstance(broken.exception(), KeyError)
    assert seen == [1, 5]


def test_nothing_is_decoded_for_nobody(engine: Engine, requests: list[Request]) -> None:
    seen: list[Progress] = []
    [future] = engine.decode_all([Decode(requests[0], seen.append, should_cancel=lambda: True)])
    assert isinstance(future.exception(), Cancelled)
    assert seen == []


def test_one_with_steps_left_is_refused_and_the_others_are_not(engine: Engine, requests: list[Request]) -> None:
    noise = engine.prepare(requests[0].params)
    refused, decoded = engine.decode_all([Decode(noise), Decode(requests[0])])
    with pytest.raises(ValueError, match="steps remain"):
        refused.result()
    assert decoded.result().num_frames == 9


class MemoryThatEnds:
    """In some of a decoder's chunks, counted from 1. What failed must be gone by the next one."""

    def __init__(self, vae: torch.nn.Module, *, chunks: Container[int]) -> None:
        self.held: list[weakref.ref[torch.Tensor]] = []
        self._num_chunks = 0
        self._failing = chunks
        # Behind a part of the decoder's layers, which then hold memory of earlier frames.
        self._hook = vae.decoder.norm_out.register_forward_pre_hook(self._exhaust)

    def _exhaust(self, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        self._num_chunks += 1
        assert all(tensor() is None for tensor in self.held)
        if self._num_chunks in self._failing:
            self.held.append(weakref.ref(inputs[0]))
            raise torch.OutOfMemoryError("no memory")

    def remove(self) -> None:
        self._hook.remove()


def test_where_a_stack_does_not_fit_each_is_decoded_alone(
    engine: Engine, requests: list[Request], alone: list[np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    told: list[int] = []
    # The second of the three together, then the first of the three that the second video has alone.
    memory = MemoryThatEnds(engine._parts.vae, chunks={2, 6})
    gc.disable()
    try:
        first, second, third = engine.decode_all(
            [
                Decode(requests[0], on_progress=lambda progress: told.append(progress.completed_frames)),
                *map(Decode, (requests[2], requests[4])),
            ]
        )
        assert len(memory.held) == 2
        assert all(tensor() is None for tensor in memory.held)
    finally:
        gc.enable()
        memory.remove()

    assert np.array_equal(first.result().pixels, alone[0])
    assert isinstance(second.exception(), OutOfMemory)
    assert isinstance(second.exception().__cause__, torch.OutOfMemoryError)
    assert np.array_equal(third.result().pixels, alone[4])
    assert told == [1, 5, 9]
    assert "3 videos could not be decoded together" in caplog.text


def test_frames_that_do_not_fit_in_the_end_are_one_decodes_failure(
    engine: Engine, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out(_chunks: list[np.ndarray]) -> np.ndarray:
        raise MemoryError("no memory")

    monkeypatch.setattr(decoding.np, "concatenate", run_out)
    outcomes = engine.decode_all([Decode(request) for request in requests])
    assert all(isinstance(each.exception(), MemoryError) for each in outcomes)


def test_callbacks_run_outside_of_inference_mode(engine: Engine, requests: list[Request]) -> None:
    modes: list[bool] = []
    engine.decode(requests[0], on_progress=lambda _: modes.append(torch.is_inference_mode_enabled()))
    assert modes == [False] * 3


def test_a_stack_is_no_larger_than_its_memory(
    engine: Engine, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    decodes = [Decode(request) for request in requests]
    [one, *_] = (decoding.decode_bytes(engine.shape, request.params) for request in requests)
    monkeypatch.setattr(decoding, "STACK_BYTES", 2 * one)
    stacks = stacks_of(decodes, shape=engine.shape, vae=engine._parts.vae)
    assert [[decodes.index(each) for each in stack] for stack in stacks] == [[0, 2], [1, 3], [4]]

    monkeypatch.setattr(decoding, "STACK_BYTES", 1)
    assert [len(stack) for stack in stacks_of(decodes, shape=engine.shape, vae=engine._parts.vae)] == [1] * 5


def test_with_diffusers_own_layers_as_on_a_gpu_each_is_decoded_by_itself(
    engine: Engine, requests: list[Request]
) -> None:
    stock = AutoencoderKLWan.from_config(engine._parts.vae.config)
    decodes = [Decode(request) for request in requests]
    assert [len(stack) for stack in stacks_of(decodes, shape=engine.shape, vae=stock)] == [1] * 5
