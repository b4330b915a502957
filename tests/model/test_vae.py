"""Decoding in chunks against the module's own decode."""

import copy
import io

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan

from bench.live_memory import LiveMemory
from model.folder import open_folder
from model.loader import load_parts
from model.vae import DecodeState, decode_chunks


@pytest.fixture(scope="module")
def stock_vae():
    return AutoencoderKLWan.from_pretrained(open_folder("embedded").path / "vae", local_files_only=True).eval()


@pytest.fixture(scope="module")
def vae():
    return load_parts(open_folder("embedded"), device="cpu", dtype="float32").vae


def random_latents(seed, *, frames, size=(8, 6)):
    return torch.randn(1, 16, frames, *size, generator=torch.Generator().manual_seed(seed))


def whole_decode(vae, latents):
    mean, std = (
        torch.tensor(values).view(1, -1, 1, 1, 1) for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    video = vae.decode(latents * std + mean).sample[0]
    return (video * 127.5 + 127.5).round().to(torch.uint8).permute(1, 2, 3, 0).numpy()


LARGE = (24, 16)
"""Latents of frames so large that they are finished one by one."""


@torch.inference_mode()
def test_the_layers_for_a_cpu_are_as_exact_as_diffusers_own(vae, stock_vae):
    latents = random_latents(1, frames=5)
    exact = copy.deepcopy(stock_vae).double().decode(latents.double()).sample

    ours, stock = ((each.decode(latents).sample - exact).norm() / exact.norm() for each in (vae, stock_vae))

    assert float(ours) < 2e-6
    assert float(ours) < 2 * float(stock)


@pytest.mark.parametrize("frames", [1, 2, 5])
@torch.inference_mode()
def test_chunks_equal_diffusers_own_decode_but_for_rounding(vae, stock_vae, frames):
    latents = random_latents(1, frames=frames)

    chunks = np.concatenate(list(decode_chunks(vae, latents)))

    difference = np.abs(chunks.astype(int) - whole_decode(stock_vae, latents).astype(int))
    assert difference.max() <= 1
    assert difference.mean() < 1e-3


@pytest.mark.parametrize("size", [(8, 6), LARGE], ids=["small frames", "large frames"])
@torch.inference_mode()
def test_with_diffusers_own_layers_as_on_a_gpu_chunks_equal_the_whole_decode_too(stock_vae, size):
    latents = random_latents(1, frames=3, size=size)

    chunks = list(decode_chunks(stock_vae, latents))

    assert np.array_equal(np.concatenate(chunks), whole_decode(stock_vae, latents))


@pytest.mark.parametrize("frames", [1, 2, 5])
@torch.inference_mode()
def test_chunks_equal_the_whole_decode_bit_by_bit(vae, frames):
    latents = random_latents(1, frames=frames)

    chunks = list(decode_chunks(vae, latents))

    assert [len(chunk) for chunk in chunks] == [1] + [4] * (frames - 1)
    assert np.array_equal(np.concatenate(chunks), whole_decode(vae, latents))


@pytest.mark.parametrize("size", [(8, 6), LARGE], ids=["small frames", "large frames"])
@torch.inference_mode()
def test_not_even_the_rounding_of_floats_differs(vae, monkeypatch, size):
    """Pixels of 256 levels would hide it."""
    monkeypatch.setattr("model.vae._pixels", lambda chunk: chunk.clamp(-1, 1))
    latents = random_latents(1, frames=3, size=size)
    std = torch.tensor(vae.config.latents_std).view(1, -1, 1, 1, 1)
    mean = torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1, 1)

    chunks = list(decode_chunks(vae, latents))

    assert torch.equal(torch.cat(chunks, dim=1), vae.decode(latents * std + mean).sample[0])


@torch.inference_mode()
def test_two_decodes_can_be_under_way_at_once(vae):
    one, two = random_latents(1, frames=3), random_latents(2, frames=3)

    interleaved = list(zip(decode_chunks(vae, one), decode_chunks(vae, two), strict=True))

    for latents, chunks in zip((one, two), zip(*interleaved, strict=True), strict=True):
        assert np.array_equal(np.concatenate(chunks), whole_decode(vae, latents))


@pytest.mark.parametrize("completed", [0, 1, 2, 4, 5])
@torch.inference_mode()
def test_a_decode_that_was_left_goes_on_from_its_state(vae, completed):
    latents, state = random_latents(1, frames=5), DecodeState()

    first = [chunk for _, chunk in zip(range(completed), decode_chunks(vae, latents, state), strict=False)]
    assert state.completed_latent_frames == completed
    # Also in another process: the state is numbers and a few words.
    buffer = io.BytesIO()
    torch.save((state.completed_latent_frames, state.memory), buffer)
    buffer.seek(0)
    rest = list(decode_chunks(vae, latents, DecodeState(*torch.load(buffer))))

    assert np.array_equal(np.concatenate(first + rest), whole_decode(vae, latents))


@torch.inference_mode()
def test_a_copy_of_the_state_goes_on_by_itself(vae):
    latents, state = random_latents(1, frames=4), DecodeState()
    decode = decode_chunks(vae, latents, state)
    next(decode), next(decode)
    early = state.copy()

    rest = list(decode)

    assert np.array_equal(np.concatenate(list(decode_chunks(vae, latents, early))), np.concatenate(rest))


@torch.inference_mode()
def test_a_chunk_that_failed_can_only_be_repeated_from_a_copy(vae):
    latents, state = random_latents(1, frames=3), DecodeState()
    next(decode_chunks(vae, latents, state))
    early = state.copy()

    hook = vae.decoder.norm_out.register_forward_pre_hook(exhaust_memory)
    with pytest.raises(torch.OutOfMemoryError):
        next(decode_chunks(vae, latents, state))
    hook.remove()

    with pytest.raises(ValueError, match="failed after 1 latent frames"):
        next(decode_chunks(vae, latents, state))
    assert np.array_equal(np.concatenate(list(decode_chunks(vae, latents, early))), whole_decode(vae, latents)[1:])


def exhaust_memory(*_call: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize("size", [(8, 6), LARGE], ids=["small frames", "large frames"])
@torch.inference_mode()
def test_memory_does_not_grow_with_the_number_of_frames(vae, size):
    assert peak_bytes(vae, frames=11, size=size) <= 1.01 * peak_bytes(vae, frames=4, size=size)


def peak_bytes(vae, *, frames, size):
    latents = random_latents(1, frames=frames, size=size)
    with LiveMemory() as live:
        for _chunk in decode_chunks(vae, latents):
            pass
    return live.peak_bytes
