"""The denoiser in training: a small WanTransformer3DModel, its start, and exact short text blocks."""

import math

import torch
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttention
from torch import Tensor, nn

from model.tiny.layers import use_training_layers

HEADS, HEAD_WIDTH = 4, 32
CONFIG = {
    "num_attention_heads": HEADS,
    "attention_head_dim": HEAD_WIDTH,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 128,
    "freq_dim": 128,
    "ffn_dim": 512,
    "num_layers": 6,
    "rope_max_seq_len": 128,
}
TEXT_TOKENS = 512


def new_denoiser() -> WanTransformer3DModel:
    """Random weights. Self-attention starts with a taste for neighbours in space and time."""
    transformer = WanTransformer3DModel(**CONFIG)
    with torch.no_grad():
        for module in transformer.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(transformer.patch_embedding.weight.flatten(1))
        nn.init.zeros_(transformer.patch_embedding.bias)
        embedder = transformer.condition_embedder
        for module in [*embedder.time_embedder.modules(), *embedder.text_embedder.modules()]:
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.08)
        nn.init.zeros_(transformer.proj_out.weight)
        for layer, block in enumerate(transformer.blocks):
            block.attn2.norm_q.weight.fill_(1.6)
            block.attn2.norm_k.weight.fill_(1.6)
            _prefer_neighbours(block.attn1, layer)
    return for_training(transformer)


def for_training(transformer: WanTransformer3DModel) -> WanTransformer3DModel:
    """Its blocks with the layers that training runs; every cross-attention then needs set_pad_bias()."""
    use_training_layers(transformer)
    return transformer


def set_pad_bias(transformer: WanTransformer3DModel, bias: Tensor) -> None:
    """Logit bias of the text tokens in the next forward  # b 1 1 n"""
    for block in transformer.blocks:
        block.attn2.processor.bias = bias


def pad_bias(mask: Tensor) -> Tensor:
    """Makes the pads of a short text block weigh as much as all pads up to TEXT_TOKENS would  # b n → b 1 1 n

    Every row needs at least one pad. Exact: equal keys and values add up in a softmax.
    """
    length = mask.sum(1, keepdim=True)
    weight = torch.log((TEXT_TOKENS - length).float() / (mask.shape[1] - length).float())
    return torch.where(mask > 0, torch.zeros(()), weight)[:, None, None]


# Preferred (frame, row, column) offsets of the heads; None: no preference along that axis, or for the whole head.
_EVEN = ((0, 0, 0), (None, 0, 0), (0, 0, 1), None), ((0, 0, 0), (None, 0, 0), (0, 0, -1), None)
_ODD = ((-1, 0, 0), (1, 0, 0), (0, 1, 0), None), ((-1, 0, 0), (1, 0, 0), (0, -1, 0), None)


def _prefer_neighbours(attention: WanAttention, layer: int) -> None:
    """Constant query and key biases in the fastest rotary pair of an axis give a logit ~ cos(offset - preferred)."""
    spatial = 2 * (HEAD_WIDTH // 6)
    starts = (0, HEAD_WIDTH - 2 * spatial, HEAD_WIDTH - spatial)
    offsets = (_EVEN if layer % 2 == 0 else _ODD)[layer // 2 % 2]
    for head, preferred in enumerate(offsets):
        for axis, offset in enumerate(preferred or ()):
            if offset is None:
                continue
            i = head * HEAD_WIDTH + starts[axis]
            attention.to_q.bias[i] = 2 * math.cos(offset)
            attention.to_q.bias[i + 1] = 2 * math.sin(offset)
            attention.to_k.bias[i] = 2.0
            for norm in (attention.norm_q, attention.norm_k):
                norm.weight[i : i + 2] = 2.0
