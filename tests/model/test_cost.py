"""The cost formulas against PyTorch's own FLOP counter, and against the published size of A14B."""

from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch.utils.flop_counter import FlopCounterMode
from transformers import UMT5Config, UMT5EncoderModel

from model.a14b import SHAPE as A14B_SHAPE
from model.cost import DeviceRate, cost_coefficients, parked_state_bytes, resident_state_bytes
from model.describe import official_card
from model.params import GenerationParams
from model.shapes import CheckpointShape, TextShape, TransformerShape

SMALL_SHAPE = CheckpointShape(
    transformer=TransformerShape(
        num_layers=3,
        num_heads=2,
        head_dim=24,
        ffn_dim=80,
        text_dim=40,
        freq_dim=32,
        in_channels=16,
        out_channels=16,
        patch_size=(1, 2, 2),
        rope_max_seq_len=64,
    ),
    vae=replace(A14B_SHAPE.vae, base_dim=8, dim_mult=(1, 2, 3, 4)),
    text=TextShape(d_model=40, num_layers=2, num_heads=4, d_kv=12, d_ff=64),
    boundary_ratio=0.875,
    num_train_timesteps=1000,
)
CARD = official_card(A14B_SHAPE, name="a14b", digest="0" * 64)


def counted(run) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def clip(width, height, num_frames):
    return replace(CARD.default_params("a cat"), width=width, height=height, num_frames=num_frames)


def latents_on_meta(shape: CheckpointShape, params: GenerationParams) -> torch.Tensor:
    size = {"width": params.width, "height": params.height, "num_frames": params.num_frames}
    return torch.empty(shape.latent_shape(**size), device="meta")


def transformer_on_meta(shape: TransformerShape) -> WanTransformer3DModel:
    with torch.device("meta"):
        return WanTransformer3DModel(
            num_layers=shape.num_layers,
            num_attention_heads=shape.num_heads,
            attention_head_dim=shape.head_dim,
            ffn_dim=shape.ffn_dim,
            text_dim=shape.text_dim,
            freq_dim=shape.freq_dim,
            rope_max_seq_len=shape.rope_max_seq_len,
        )


@pytest.mark.parametrize("shape", [SMALL_SHAPE, A14B_SHAPE], ids=["small", "a14b"])
@torch.inference_mode()
def test_a_forward_costs_what_pytorch_counts(shape):
    params = clip(96, 64, 9)
    transformer = transformer_on_meta(shape.transformer)
    latents = latents_on_meta(shape, params)
    text = torch.empty(1, shape.text.max_tokens, shape.transformer.text_dim, device="meta")
    timestep = torch.empty(1, device="meta")

    reference = counted(lambda: transformer(latents, timestep, text))

    assert cost_coefficients(shape).forward_row_flop(params) == pytest.approx(reference, rel=1e-6)


@pytest.mark.parametrize("num_frames", [1, 5, 13])
@torch.inference_mode()
def test_decoding_costs_what_pytorch_counts(num_frames):
    params = clip(48, 32, num_frames)
    with torch.device("meta"):
        vae = AutoencoderKLWan(base_dim=8, dim_mult=[1, 2, 3, 4], num_res_blocks=2)
    latents = latents_on_meta(SMALL_SHAPE, params)

    reference = counted(lambda: vae.decode(latents))

    assert cost_coefficients(SMALL_SHAPE).decode_flop(params) == pytest.approx(reference, rel=1e-6)


@torch.inference_mode()
def test_a_prompt_costs_what_pytorch_counts():
    text = SMALL_SHAPE.text
    encoder = UMT5EncoderModel(
        UMT5Config(
            d_model=text.d_model,
            num_layers=text.num_layers,
            num_heads=text.num_heads,
            d_kv=text.d_kv,
            d_ff=text.d_ff,
            vocab_size=100,
            feed_forward_proj="gated-gelu",
        )
    )
    ids = torch.ones(1, text.max_tokens, dtype=torch.long)

    reference = counted(lambda: encoder(ids))

    assert cost_coefficients(SMALL_SHAPE).text_flop == pytest.approx(reference, rel=1e-6)


@pytest.mark.parametrize(
    ("size", "num_tokens", "forward_tflop", "decode_tflop", "floor_seconds"),
    [((832, 480), 32_760, 1678, 275, 135.7), ((1280, 720), 75_600, 6523, 639, 527.5)],
)
def test_a14b_costs_what_is_known_of_it(size, num_tokens, forward_tflop, decode_tflop, floor_seconds):
    params = clip(*size, 81)
    cost = CARD.cost

    # 40 steps, each with guidance, at an H100's peak.
    denoise_seconds = 80 * cost.forward_row_flop(params) / 989e12

    assert cost.num_tokens(params) == num_tokens
    assert cost.forward_row_flop(params) / 1e12 == pytest.approx(forward_tflop, rel=1e-3)
    assert cost.decode_flop(params) / 1e12 == pytest.approx(decode_tflop, rel=0.01)
    assert cost.text_flop / 1e12 == pytest.approx(4.7, rel=0.05)
    assert denoise_seconds == pytest.approx(floor_seconds, rel=1e-3)


@pytest.mark.parametrize(("size", "megabytes"), [((832, 480), 33.5), ((1280, 720), 77.4)])
def test_a_parked_request_of_a14b_keeps_four_latents(size, megabytes):
    assert parked_state_bytes(A14B_SHAPE, clip(*size, 81)) / 1e6 == pytest.approx(megabytes, rel=0.01)


def test_text_keys_and_values_are_most_of_a_resident_request():
    guided, plain = clip(832, 480, 81), replace(clip(832, 480, 81), guidance_scale=1.0, guidance_scale_2=1.0)

    per_prompt = {
        tokens: resident_state_bytes(A14B_SHAPE, guided, dtype_bytes=2, prompt_tokens=tokens)
        - resident_state_bytes(A14B_SHAPE, plain, dtype_bytes=2, prompt_tokens=tokens)
        for tokens in (None, 60)
    }

    # 40 layers' keys and values of dimension 5120 in bfloat16, and the embeddings themselves.
    assert per_prompt[None] / 1e6 == pytest.approx(419.4 + 4.2, rel=1e-3)
    assert per_prompt[60] / 1e6 == pytest.approx(50, rel=0.02)


def test_a_request_costs_its_text_its_steps_and_its_decoding():
    params = replace(clip(832, 480, 81), num_inference_steps=10, guidance_scale=4.0, guidance_scale_2=1.0)
    cost = CARD.cost

    # 6 steps of two rows, 4 of one; a prompt and a negative one.
    expected = 2 * cost.text_flop + 16 * cost.forward_row_flop(params) + cost.decode_flop(params)

    assert cost.request_flop(params, num_high_noise_steps=6) == pytest.approx(expected)


def test_seconds_follow_from_a_share_of_the_peak():
    assert DeviceRate(peak_flop_per_second=989e12, share=0.5).seconds(989e12) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("peak", "share", "told"),
    [
        (0.0, 0.5, "peak_flop_per_second is 0.0"),
        (float("nan"), 0.5, "peak_flop_per_second is nan"),
        (float("inf"), 0.5, "peak_flop_per_second is inf"),
        (1e12, 0.0, "share is 0.0"),
        (1e12, 1.5, "share is 1.5"),
        (1e12, float("nan"), "share is nan"),
    ],
)
def test_a_rate_that_no_device_has_is_refused(peak, share, told):
    with pytest.raises(ValueError, match=told):
        DeviceRate(peak_flop_per_second=peak, share=share)
