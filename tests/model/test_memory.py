"""The memory plan: its numbers against modules on the meta device, its decisions against what is known of GPUs."""

import math
import re
from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch.nn import functional as F
from transformers import UMT5Config, UMT5EncoderModel

from bench.live_memory import LiveMemory
from model.a14b import SHAPE
from model.denoise import Stack, predict_velocities
from model.describe import official_card
from model.errors import InvalidParams
from model.experts import use_own_blocks
from model.folder import open_folder
from model.loader import load_parts
from model.memory import check_fits, decode_bytes, forward_bytes, largest_batch, needed_bytes, plan_memory
from model.shapes import CheckpointShape
from model.text import text_keys_values
from model.vae import decode_chunks
from model.weights import (
    expert_bytes,
    expert_parameters,
    text_encoder_bytes,
    text_encoder_parameters,
    vae_bytes,
    vae_parameters,
)

CARD = official_card(SHAPE, name="a14b", digest="0" * 64)
GB = 10**9


def clip(width, height, num_frames=81, **changes):
    params = CARD.default_params("a cat")
    return replace(params, width=width, height=height, num_frames=num_frames, **changes)


HD, SD = clip(1280, 720), clip(832, 480)


def num_parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def num_bytes(module: torch.nn.Module) -> int:
    return sum(parameter.nbytes for parameter in module.parameters())


def expert_on_meta(**changes) -> WanTransformer3DModel:
    with torch.device("meta"):
        return WanTransformer3DModel(**changes)


def vae_on_meta(shape: CheckpointShape) -> AutoencoderKLWan:
    with torch.device("meta"):
        return AutoencoderKLWan(
            base_dim=shape.vae.base_dim,
            dim_mult=list(shape.vae.dim_mult),
            num_res_blocks=shape.vae.num_res_blocks,
            temperal_downsample=list(reversed(shape.vae.temporal_upsample)),
        )


def test_a14b_has_as_many_parameters_as_its_modules():
    text = SHAPE.text
    config = UMT5Config(
        d_model=text.d_model, num_layers=text.num_layers, num_heads=text.num_heads, d_kv=text.d_kv, d_ff=text.d_ff,
        vocab_size=text.vocab_size, feed_forward_proj="gated-gelu",
    )  # fmt: skip
    with torch.device("meta"):
        encoder = UMT5EncoderModel(config)

    assert expert_parameters(SHAPE.transformer) == num_parameters(expert_on_meta())
    assert vae_parameters(SHAPE.vae) == num_parameters(vae_on_meta(SHAPE))
    assert text_encoder_parameters(text) == num_parameters(encoder)
    assert round(expert_parameters(SHAPE.transformer) / 1e9, 2) == 14.29


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_take_the_bytes_that_loading_takes(dtype):
    folder = open_folder("embedded")
    parts = load_parts(folder, device="cpu", dtype=dtype)
    dtype_bytes = parts.dtype.itemsize

    assert expert_bytes(folder.shape, dtype_bytes=dtype_bytes) == num_bytes(parts.experts.low_noise)
    assert text_encoder_bytes(folder.shape, dtype_bytes=dtype_bytes) == num_bytes(parts.text_encoder)
    assert vae_bytes(folder.shape) == num_bytes(parts.vae)


def without_scores(query: torch.Tensor, *_others: object, **_options: object) -> torch.Tensor:
    """Attention as a GPU runs it: beside its outcome it keeps nothing of note."""
    return torch.empty_like(query)


def two_blocks_on_meta(dtype: torch.dtype) -> WanTransformer3DModel:
    """As from_pretrained() casts them; all of A14B's blocks are alike, and one runs at a time."""
    transformer = expert_on_meta(num_layers=2)
    for name, parameter in transformer.named_parameters():
        if not any(part in name for part in ("time_embedder", "scale_shift_table", "norm2")):
            parameter.data = parameter.data.to(dtype)
    use_own_blocks(transformer)
    return transformer.eval().requires_grad_(False)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("guidance_scale", [4.0, 1.0], ids=["with guidance", "without"])
@torch.inference_mode()
def test_a_forward_holds_what_is_planned_for_it(monkeypatch, dtype, guidance_scale):
    monkeypatch.setattr(F, "scaled_dot_product_attention", without_scores)
    params = clip(832, 480, guidance_scale=guidance_scale, guidance_scale_2=1.0)
    transformer = two_blocks_on_meta(dtype)
    num_rows = 2 if guidance_scale > 1 else 1
    latents = torch.empty(1, 16, 21, 60, 104, device="meta")
    prompts = [torch.empty(60, 4096, device="meta")] * num_rows
    stack = Stack(
        latents=latents,
        timesteps=(900,),
        num_rows=(num_rows,),
        text=text_keys_values(transformer, prompts, max_tokens=512),
        rotary=torch.empty(1, 32_760, 1, 64, dtype=torch.complex64, device="meta"),
    )

    with LiveMemory() as live:
        predict_velocities(transformer, [stack])

    planned = forward_bytes(SHAPE, params, dtype_bytes=dtype.itemsize)
    assert planned == pytest.approx(live.peak_bytes, rel=0.01)


@pytest.mark.parametrize("shape", [SHAPE, open_folder("embedded").shape], ids=["a14b", "embedded"])
@torch.inference_mode()
def test_a_decode_holds_what_is_planned_for_it(monkeypatch, shape):
    monkeypatch.setattr("model.vae._pixels", lambda chunk: chunk)
    vae, latents = vae_on_meta(shape), torch.empty(1, 16, 4, 60, 104, device="meta")

    with LiveMemory() as live:
        # The chunk before lives on while the next one is made.
        for chunk in decode_chunks(vae, latents):
            assert chunk.shape[-2:] == (480, 832)

    assert decode_bytes(shape, SD) == pytest.approx(live.peak_bytes, rel=0.01)


@pytest.mark.parametrize("params", [SD, HD], ids=["480p", "720p"])
def test_decoding_needs_less_than_a_forward_with_guidance(params):
    """So that tiles, which change pixels, would let nothing be made that can't be made without."""
    assert decode_bytes(SHAPE, params) < forward_bytes(SHAPE, params, dtype_bytes=2)


def plan(gigabytes, *, clips=(HD, SD), residency=None):
    return plan_memory(SHAPE, clips=clips, dtype_bytes=2, device_bytes=gigabytes * GB, residency=residency)


PLACES = {
    141: ("both", True),
    96: ("both", True),
    80: ("both", False),
    64: ("rolling", True),
    # No way has room for 720p, this one for 480p.
    48: ("rolling", False),
    40: ("rolling", False),
}


@pytest.mark.parametrize(("gigabytes", "places"), PLACES.items())
def test_as_much_lies_on_the_device_as_leaves_room_for_the_clips(gigabytes, places):
    planned = plan(gigabytes)

    assert (planned.residency, planned.text_encoder_on_device) == places


def test_80_gb_take_both_experts_and_a_720p_clip_only_without_the_text_encoder():
    planned = plan(80)

    assert largest_batch(planned, SHAPE, HD) == 1
    assert largest_batch(replace(planned, text_encoder_on_device=True), SHAPE, HD) == 0
    assert planned.host_bytes == planned.text_encoder_bytes


def test_48_gb_take_one_expert_and_480p():
    planned = plan(48)

    assert planned.weight_bytes / GB == pytest.approx(29.1, abs=0.1)
    assert planned.host_bytes == 2 * planned.expert_bytes + planned.text_encoder_bytes
    assert largest_batch(planned, SHAPE, SD) >= 1
    assert largest_batch(planned, SHAPE, HD) == 0


@pytest.mark.parametrize(("params", "published_gigabytes"), [(SD, 41.3), (HD, 59.8)], ids=["480p", "720p"])
def test_one_expert_and_a_clip_need_less_than_the_official_code_was_seen_to(params, published_gigabytes):
    """Its peak on one H100, with one expert and no text encoder there; it holds its rotation in float64."""
    one_expert = replace(plan(80), residency="rolling", text_encoder_on_device=False)

    assert 0.8 < needed_bytes(one_expert, SHAPE, params) / (published_gigabytes * GB) < 1


def test_a_batch_as_large_as_planned_fits_and_one_more_does_not():
    planned = plan(141)
    largest = largest_batch(planned, SHAPE, SD)
    one = needed_bytes(planned, SHAPE, SD) - planned.device_bytes + planned.room_bytes

    assert largest > 1
    assert largest * one <= planned.room_bytes < (largest + 1) * one


def test_without_guidance_a_batch_is_twice_as_large():
    alone = clip(832, 480, guidance_scale=1.0, guidance_scale_2=1.0)

    assert largest_batch(plan(141), SHAPE, alone) >= 2 * largest_batch(plan(141), SHAPE, SD)


def test_more_frames_need_more_for_the_forward_and_nothing_for_the_decoding():
    longer = clip(832, 480, 161)

    assert forward_bytes(SHAPE, longer, dtype_bytes=2) > forward_bytes(SHAPE, SD, dtype_bytes=2)
    assert decode_bytes(SHAPE, longer) == decode_bytes(SHAPE, SD)


def test_a_residency_that_is_asked_for_is_planned():
    assert plan(141, residency="swap").residency == "swap"
    assert plan(48, residency="both").room_bytes < 0


def test_a_device_too_small_for_the_weights_has_no_room_and_no_batch():
    planned = plan(24)

    assert (planned.residency, planned.text_encoder_on_device) == ("rolling", False)
    assert planned.room_bytes < 0
    assert largest_batch(planned, SHAPE, SD) == 0


def test_a_request_beyond_the_memory_is_refused_with_the_frames_that_fit():
    planned = plan(40)

    check_fits(planned, SHAPE, clip(832, 480, 33))
    with pytest.raises(InvalidParams, match=r"161 frames of 832x480 need .* device has 40\.0 GB") as caught:
        check_fits(planned, SHAPE, clip(832, 480, 161))

    most = int(re.search(r"at most (\d+) frames", str(caught.value))[1])
    check_fits(planned, SHAPE, clip(832, 480, most))
    with pytest.raises(InvalidParams):
        check_fits(planned, SHAPE, clip(832, 480, most + 4))


def test_a_size_whose_decoding_alone_is_too_much_is_refused_at_any_length():
    with pytest.raises(InvalidParams, match=r": give a smaller size\."):
        check_fits(plan(40), SHAPE, HD)


def test_where_memory_does_not_matter_both_stay():
    planned = plan_memory(SHAPE, clips=(), dtype_bytes=4, device_bytes=math.inf)

    assert (planned.residency, planned.text_encoder_on_device) == ("both", True)
    check_fits(planned, SHAPE, clip(1280, 720, 1601))
