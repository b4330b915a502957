"""How many bytes a checkpoint's weights take. Arithmetic on config numbers: no torch, no file."""

import itertools
import math

from model.shapes import CheckpointShape, TextShape, TransformerShape, VaeShape

FLOAT32_BYTES = 4


def expert_bytes(shape: CheckpointShape, *, dtype_bytes: int) -> int:
    """One of the two experts; its time embedding, modulation and affine norms stay in float32."""
    transformer = shape.transformer
    islands = _float32_parameters(transformer)
    return dtype_bytes * (expert_parameters(transformer) - islands) + FLOAT32_BYTES * islands


def text_encoder_bytes(shape: CheckpointShape, *, dtype_bytes: int) -> int:
    return dtype_bytes * text_encoder_parameters(shape.text)


def vae_bytes(shape: CheckpointShape) -> int:
    """Always in float32."""
    return FLOAT32_BYTES * vae_parameters(shape.vae)


def expert_parameters(shape: TransformerShape) -> int:
    dim, ffn, pixels = shape.dim, shape.ffn_dim, math.prod(shape.patch_size)
    attention = 4 * _linear(dim, dim) + 2 * dim
    feed_forward = _linear(dim, ffn) + _linear(ffn, dim)
    block = 2 * attention + feed_forward + 2 * dim + 6 * dim
    time = _linear(shape.freq_dim, dim) + _linear(dim, dim) + _linear(dim, 6 * dim)
    text = _linear(shape.text_dim, dim) + _linear(dim, dim)
    ends = _linear(shape.in_channels * pixels, dim) + _linear(dim, shape.out_channels * pixels) + 2 * dim
    return shape.num_layers * block + time + text + ends


def _float32_parameters(shape: TransformerShape) -> int:
    time_embedding = _linear(shape.freq_dim, shape.dim) + _linear(shape.dim, shape.dim)
    return time_embedding + shape.num_layers * (2 + 6) * shape.dim + 2 * shape.dim


def text_encoder_parameters(shape: TextShape) -> int:
    inner = shape.num_heads * shape.d_kv
    attention = 4 * shape.d_model * inner + shape.num_position_buckets * shape.num_heads
    feed_forward = 3 * shape.d_model * shape.d_ff  # gated: two in, one out
    layer = attention + feed_forward + 2 * shape.d_model
    return shape.vocab_size * shape.d_model + shape.num_layers * layer + shape.d_model


def vae_parameters(shape: VaeShape) -> int:
    ends = _conv(2 * shape.z_dim, 2 * shape.z_dim, 1) + _conv(shape.z_dim, shape.z_dim, 1)
    return _encoder_parameters(shape) + _decoder_parameters(shape) + ends


def _decoder_parameters(shape: VaeShape) -> int:
    channels = [shape.base_dim * m for m in (shape.dim_mult[-1], *reversed(shape.dim_mult))]
    count = _conv(shape.z_dim, channels[0], 27) + _middle(channels[0])
    for level, (width, out) in enumerate(itertools.pairwise(channels)):
        # Every upsampling but the last halves the channels on the way to the next level.
        count += _residual(width if level == 0 else width // 2, out) + shape.num_res_blocks * _residual(out, out)
        if level < len(channels) - 2:
            count += _conv(out, out // 2, 9)
            count += _conv(out, 2 * out, 3) if shape.temporal_upsample[level] else 0
    return count + channels[-1] + _conv(channels[-1], shape.out_channels, 27)


def _encoder_parameters(shape: VaeShape) -> int:
    channels = [(shape.encoder_base_dim or shape.base_dim) * m for m in (1, *shape.dim_mult)]
    count = _conv(shape.out_channels, channels[0], 27) + _middle(channels[-1])
    temporal_downsample = tuple(reversed(shape.temporal_upsample))
    for level, (width, out) in enumerate(itertools.pairwise(channels)):
        count += _residual(width, out) + (shape.num_res_blocks - 1) * _residual(out, out)
        if level < len(channels) - 2:
            count += _conv(out, out, 9)
            count += _conv(out, out, 3) if temporal_downsample[level] else 0
    return count + channels[-1] + _conv(channels[-1], 2 * shape.z_dim, 27)


def _middle(width: int) -> int:
    """Two residual blocks around an attention."""
    return 2 * _residual(width, width) + width + _conv(width, 3 * width, 1) + _conv(width, width, 1)


def _residual(width: int, out: int) -> int:
    shortcut = _conv(width, out, 1) if width != out else 0
    return width + _conv(width, out, 27) + out + _conv(out, out, 27) + shortcut


def _conv(width: int, out: int, taps: int) -> int:
    return width * out * taps + out


def _linear(width: int, out: int) -> int:
    return width * out + out
