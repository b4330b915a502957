"""The denoiser in training: a small WanTransformer3DModel, its start, and exact short text blocks."""

import math
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttention, WanAttnProcessor
from torch import Tensor, nn

from model.tiny.precision import IS_BF16_FAST

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
    """Give every cross-attention the pad bias, and bf16 products where the processor is fast at them."""
    for block in transformer.blocks:
        block.attn2.set_processor(_BiasedCrossAttention())
        if IS_BF16_FAST:
            for module in block.modules():
                if isinstance(module, nn.Linear):
                    module.forward = _Bf16Product(module)  # type: ignore[method-assign, assignment]
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


class _BiasedCrossAttention(WanAttnProcessor):
    bias: Tensor | None = None

    def __call__(
        self,
        attn: nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: Any = None,
    ) -> Tensor:
        return super().__call__(attn, hidden_states, encoder_hidden_states, self.bias, rotary_emb)


class _Bf16Product:
    """A linear layer's forward: fp32 in and out, its three matrix products in bf16."""

    def __init__(self, linear: nn.Linear) -> None:
        self._linear = linear

    def __call__(self, x: Tensor) -> Tensor:
        return _bf16_linear(x, self._linear.weight, self._linear.bias)


class _Bf16Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        rows, columns = x.reshape(-1, x.shape[-1]).bfloat16(), weight.bfloat16()
        ctx.save_for_backward(rows, columns)
        ctx.shape = x.shape
        return (rows @ columns.t()).float().add_(bias).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows, columns = ctx.saved_tensors
        flat = gradient.reshape(-1, gradient.shape[-1])
        narrow = flat.bfloat16()
        return (narrow @ columns).float().view(ctx.shape), (narrow.t() @ rows).float(), flat.sum(0)


def _bf16_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return _Bf16Linear.apply(x, weight, bias)


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
