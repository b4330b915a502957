"""What a request costs, in FLOP. Arithmetic on config numbers: no torch, no weights.

Only matrix products, convolutions and attention are counted, a multiply-add as two; the rest is memory
traffic. Text is counted at its full length, so that real prompts cost up to 3 % less.
"""

import itertools
import math
from dataclasses import dataclass

from model.params import GenerationParams
from model.shapes import CheckpointShape, TextShape, TransformerShape, VaeShape


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

    def decode_flop(self, params: GenerationParams) -> float:
        sites = (params.width // self.site_pixels) * (params.height // self.site_pixels)
        frames = self._latent_frames(params)
        per_site = self.decode_flop_first_frame_per_site + self.decode_flop_per_site * (frames - 1)
        return (per_site + self.decode_flop_per_site_pair * sites * frames) * sites

    def _latent_frames(self, params: GenerationParams) -> int:
        return (params.num_frames - 1) // self.frame_stride + 1


def guidance_rows(guidance_scale: float) -> int:
    return 2 if guidance_scale > 1 else 1


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
