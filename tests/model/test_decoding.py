"""Videos decoded together get the very bits that they get alone, and one that ends early harms no other."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

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
    assert [len(stack) for stack in stacks_of(decodes, shape=engine.shape, device=engine.device)] == [3, 2]

    for future, pixels in zip(engine.decode_all(decodes), alone, strict=True):
        assert np.array_equal(future.result().pixels, pixels)


@torch.inference_mode()
def test_not_even_the_rounding_of_floats_differs(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels of 256 levels would hide it."""
    monkeypatch.setattr("model.vae._pixels", lambda chunk: chunk.clone())
    vae = engine._parts.vae
    latents = torch.randn(5, 16, 3, 8, 6, generator=torch.Generator().manual_seed(1))

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


def test_where_a_stack_does_not_fit_each_is_decoded_alone(
    engine: Engine, requests: list[Request], alone: list[np.ndarray]
) -> None:
    def exhaust_memory(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if len(inputs[0]) > 1 or torch.equal(inputs[0], hopeless[0]):
            raise torch.OutOfMemoryError("no memory")

    hopeless: list[torch.Tensor] = []
    vae = engine._parts.vae
    watch = vae.decoder.conv_in.register_forward_pre_hook(lambda _module, inputs: hopeless.append(inputs[0]))
    engine.decode(requests[2])
    watch.remove()
    hook = vae.decoder.conv_in.register_forward_pre_hook(exhaust_memory)

    first, second, third = engine.decode_all([Decode(request) for request in requests[::2]])
    hook.remove()

    assert np.array_equal(first.result().pixels, alone[0])
    assert isinstance(second.exception(), OutOfMemory)
    assert np.array_equal(third.result().pixels, alone[4])


def test_a_stack_is_no_larger_than_its_memory(
    engine: Engine, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    decodes = [Decode(request) for request in requests]
    [one, *_] = (decoding.decode_bytes(engine.shape, request.params) for request in requests)
    monkeypatch.setattr(decoding, "STACK_BYTES", 2 * one)
    stacks = stacks_of(decodes, shape=engine.shape, device=engine.device)
    assert [[decodes.index(each) for each in stack] for stack in stacks] == [[0, 2], [1, 3], [4]]

    monkeypatch.setattr(decoding, "STACK_BYTES", 1)
    assert [len(stack) for stack in stacks_of(decodes, shape=engine.shape, device=engine.device)] == [1] * 5


def test_on_a_gpu_each_is_decoded_by_itself(engine: Engine, requests: list[Request]) -> None:
    decodes = [Decode(request) for request in requests]
    assert [len(stack) for stack in stacks_of(decodes, shape=engine.shape, device=torch.device("cuda"))] == [1] * 5
