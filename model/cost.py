"""What a request costs, in FLOP, seconds and bytes. Arithmetic on config numbers: no torch, no weights.

Only matrix products, convolutions and attention are counted, a multiply-add as two; the rest is memory
traffic. Text is counted at its full length, so that real prompts cost up to 3 % less FLOP.
"""

import itertools
import math
from dataclasses import dataclass

from model.params import GenerationParams
from model.shapes import CheckpointShape, TextShape, TransformerShape, VaeShape

NUM_STATE_TENSORS = 4
"""Shaped like the latents, float32: the latents, and three that UniPC keeps of the last two steps."""

_FLOAT32_BYTES = 4
_COMPLEX64_BYTES = 8


@dataclass(frozen=True, slots=True)
class CostCoefficients:
    """A checkpoint's cost as polynomials, so that whoever has only the card can price a request."""

    forward_flop: float
    """One row through an expert, the part that does not depend on its size."""

    forward_flop_per_token: float
    forward_flop_per_token_pair: float

    decode_flop_first_frame_per_site: float
    """The first latent frame becomes one frame; a site is one latent pixel."""

    decode_flop_per_site: float
    """Every later latent frame becomes frame_stride frames."""

    decode_flop_per_site_pair: float
    """Attention inside one latent frame."""

    text_flop: float
    """One prompt through the text encoder."""

    token_pixels: int
    """A token covers token_pixels x token_pixels."""

    site_pixels: int
    """A latent site covers site_pixels x site_pixels."""

    frame_stride: int

    def num_tokens(self, params: GenerationParams) -> int:
        side = self.token_pixels
        return self._latent_frames(params) * (params.width // side) * (params.height // side)

    def forward_row_flop(self, params: GenerationParams) -> float:
        """One row of one denoising step; a step with guidance has two rows."""
        tokens = self.num_tokens(params)
        per_token = self.forward_flop_per_token + self.forward_flop_per_token_pair * tokens
        return self.forward_flop + per_token * tokens

    def step_flop(self, params: GenerationParams, guidance_scale: float) -> float:
        """One denoising step; guidance_scale: of the expert that runs it."""
        return guidance_rows(guidance_scale) * self.forward_row_flop(params)

    def request_flop(self, params: GenerationParams, *, num_high_noise_steps: int) -> float:
        """Text, every step and the decoding."""
        num_low_noise_steps = params.num_inference_steps - num_high_noise_steps
        high_noise = num_high_noise_steps * self.step_flop(params, params.guidance_scale)
        low_noise = num_low_noise_steps * self.step_flop(params, params.guidance_scale_2)
        return self.prompts_flop(params) + high_noise + low_noise + self.decode_flop(params)

    def prompts_flop(self, params: GenerationParams) -> float:
        """The text encoder: the prompt and, where either expert is guided, the negative one."""
        return most_rows(params) * self.text_flop

    def decode_flop(self, params: GenerationParams) -> float:
        sites = (params.width // self.site_pixels) * (params.height // self.site_pixels)
        frames = self._latent_frames(params)
        per_site = self.decode_flop_first_frame_per_site + self.decode_flop_per_site * (frames - 1)
        return (per_site + self.decode_flop_per_site_pair * sites * frames) * sites

    def _latent_frames(self, params: GenerationParams) -> int:
        return (params.num_frames - 1) // self.frame_stride + 1


@dataclass(frozen=True, slots=True)
class DeviceRate:
    """How fast a device works FLOP off. Raises ValueError for what no device can do."""

    peak_flop_per_second: float
    """Dense, in the experts' dtype; an H100 SXM does 989e12 in bfloat16."""

    share: float
    """Of the peak, above 0 and at most 1; published runs of A14B on one H100 reach 0.42 at 480p, 0.51 at 720p."""

    def __post_init__(self) -> None:
        # NaN fails both comparisons.
        if not 0 < self.peak_flop_per_second < math.inf:
            raise ValueError(f"peak_flop_per_second is {self.peak_flop_per_second}; give a number above 0.")
        if not 0 < self.share <= 1:
            raise ValueError(f"share is {self.share}; give a number above 0 and at most 1.")

    def seconds(self, flop: float) -> float:
        return flop / (self.peak_flop_per_second * self.share)


def guidance_rows(guidance_scale: float) -> int:
    return 2 if guidance_scale > 1 else 1


def most_rows(params: GenerationParams) -> int:
    """Of any step."""
    return max(guidance_rows(params.guidance_scale), guidance_rows(params.guidance_scale_2))


def parked_state_bytes(shape: CheckpointShape, params: GenerationParams) -> int:
    """What a request keeps while it waits in host memory; text and rotary table are made anew."""
    latents = math.prod(shape.latent_shape(width=params.width, height=params.height, num_frames=params.num_frames))
    return NUM_STATE_TENSORS * latents * _FLOAT32_BYTES


def resident_state_bytes(
    shape: CheckpointShape, params: GenerationParams, *, dtype_bytes: int, prompt_tokens: int | None = None
) -> int:
    """What a request keeps on the device between its steps.

    dtype_bytes: of one number of the experts; prompt_tokens: of the longest prompt, by default as many as the
    denoiser takes, which is an upper bound.
    """
    transformer = shape.transformer
    tokens = cost_coefficients(shape).num_tokens(params)
    rotary = tokens * transformer.head_dim // 2 * _COMPLEX64_BYTES
    # The embeddings, and one expert's keys and values of them in every layer.
    per_text_token = (transformer.text_dim + transformer.num_layers * 2 * transformer.dim) * dtype_bytes
    text_tokens = shape.text.max_tokens if prompt_tokens is None else prompt_tokens
    return parked_state_bytes(shape, params) + rotary + most_rows(params) * text_tokens * per_text_token


def cost_coefficients(shape: CheckpointShape) -> CostCoefficients:
    transformer, vae, text = shape.transformer, shape.vae, shape.text
    first, later, pair = _decode_flop(vae)
    return CostCoefficients(
        forward_flop=_forward_flop(transformer, text),
        forward_flop_per_token=_forward_flop_per_token(transformer, text),
        forward_flop_per_token_pair=4.0 * transformer.num_layers * transformer.dim,
        decode_flop_first_frame_per_site=first,
        decode_flop_per_site=later,
        decode_flop_per_site_pair=pair,
        text_flop=_text_flop(text),
        token_pixels=shape.size_stride,
        site_pixels=vae.spatial_stride,
        frame_stride=shape.frame_stride,
    )


def _forward_flop(shape: TransformerShape, text: TextShape) -> float:
    """Text embedding and the K and V of the text in every layer, time embedding and its projection."""
    dim, tokens = shape.dim, text.max_tokens
    text_embedding = 2 * tokens * (shape.text_dim * dim + dim * dim)
    text_keys_values = shape.num_layers * 2 * 2 * tokens * dim * dim
    time_embedding = 2 * (shape.freq_dim * dim + dim * dim + dim * 6 * dim)
    return float(text_embedding + text_keys_values + time_embedding)


def _forward_flop_per_token(shape: TransformerShape, text: TextShape) -> float:
    dim = shape.dim
    self_attention_projections = 2 * 4 * dim * dim
    cross_attention = 2 * 2 * dim * dim + 4 * text.max_tokens * dim
    feed_forward = 2 * 2 * dim * shape.ffn_dim
    patch = 2 * dim * math.prod(shape.patch_size) * (shape.in_channels + shape.out_channels)
    return float(shape.num_layers * (self_attention_projections + cross_attention + feed_forward) + patch)


def _text_flop(shape: TextShape) -> float:
    inner, tokens = shape.num_heads * shape.d_kv, shape.max_tokens
    projections = 2 * 4 * shape.d_model * inner
    feed_forward = 2 * 3 * shape.d_model * shape.d_ff  # gated: two in, one out
    attention = 4 * tokens * inner
    return float(shape.num_layers * tokens * (projections + feed_forward + attention))


def _decode_flop(shape: VaeShape) -> tuple[float, float, float]:
    """FLOP per latent site of the first and of a later latent frame, and per pair of sites of one frame.

    Follows the decoder from the latents to pixels: `area` pixels a site, `frames` frames a latent frame.
    """
    channels = [shape.base_dim * m for m in (shape.dim_mult[-1], *reversed(shape.dim_mult))]
    top = channels[0]
    stem = _conv(shape.z_dim, shape.z_dim, 1) + _conv(shape.z_dim, top, 27)
    middle = 2 * _residual(top, top) + _conv(top, 3 * top, 1) + _conv(top, top, 1)
    first = later = stem + middle
    area, frames = 1, 1
    for level, (width, out) in enumerate(itertools.pairwise(channels)):
        is_last = level == len(channels) - 2
        # Every upsampling but the last halves the channels on the way to the next level.
        entry = width if level == 0 else width // 2
        residuals = _residual(entry, out) + shape.num_res_blocks * _residual(out, out)
        first += area * residuals
        later += area * frames * residuals
        if not is_last:
            if shape.temporal_upsample[level]:
                later += area * frames * _conv(out, 2 * out, 3)
                frames *= 2
            area *= 4
            first += area * _conv(out, out // 2, 9)
            later += area * frames * _conv(out, out // 2, 9)
    head = _conv(channels[-1], shape.out_channels, 27)
    return first + area * head, later + area * frames * head, 4.0 * top


def _residual(width: int, out: int) -> float:
    shortcut = _conv(width, out, 1) if width != out else 0.0
    return _conv(width, out, 27) + _conv(out, out, 27) + shortcut


def _conv(width: int, out: int, taps: int) -> float:
    """FLOP of a convolution at one output position."""
    return 2.0 * width * out * taps
