"""Decoding in chunks against the module's own decode."""

import numpy as np
import pytest
import torch

from model.folder import open_folder
from model.loader import load_parts
from model.vae import decode_chunks


@pytest.fixture(scope="module")
def vae():
    return load_parts(open_folder("embedded"), device="cpu", dtype="float32").vae


def random_latents(seed, *, frames):
    return torch.randn(1, 16, frames, 8, 6, generator=torch.Generator().manual_seed(seed))


def whole_decode(vae, latents):
    mean, std = (
        torch.tensor(values).view(1, -1, 1, 1, 1) for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    video = vae.decode(latents * std + mean).sample[0]
    return (video * 127.5 + 127.5).round().to(torch.uint8).permute(1, 2, 3, 0).numpy()


@pytest.mark.parametrize("frames", [1, 2, 5])
@torch.inference_mode()
def test_chunks_equal_the_whole_decode_bit_by_bit(vae, frames):
    latents = random_latents(1, frames=frames)

    chunks = list(decode_chunks(vae, latents))

    assert [len(chunk) for chunk in chunks] == [1] + [4] * (frames - 1)
    assert np.array_equal(np.concatenate(chunks), whole_decode(vae, latents))


@torch.inference_mode()
def test_two_decodes_can_be_under_way_at_once(vae):
    one, two = random_latents(1, frames=3), random_latents(2, frames=3)

    interleaved = list(zip(decode_chunks(vae, one), decode_chunks(vae, two), strict=True))

    for latents, chunks in zip((one, two), zip(*interleaved, strict=True), strict=True):
        assert np.array_equal(np.concatenate(chunks), whole_decode(vae, latents))
