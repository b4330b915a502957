"""The denoiser's layers in training: diffusers' numbers, but for rounding, in fewer passes over its tokens.

A step spends most of its time not in matrix products but between them; what autograd would record of RMSNorm, rotation
and GELU one by one is a function of its own here, with its derivative.
"""

from types import MethodType
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from diffusers.models.activations import GELU
from diffusers.models.transformers.transformer_wan import WanAttention
from torch import Tensor, nn
from torch.nn import functional as F

from model.attention import complex_rotation
from model.linear_layers import GELU_CUBIC, GELU_SLOPE
from model.tiny.precision import IS_BF16_FAST


def use_training_layers(transformer: WanTransformer3DModel) -> None:
    """Attention and feed-forward of every block; bf16 products where the processor is fast at them."""
    for block in transformer.blocks:
        block.attn1.set_processor(SelfAttention())
        block.attn2.set_processor(CrossAttention())
        for module in block.modules():
            match module:
                case nn.Linear():
                    module.forward = MethodType(_linear, module)  # type: ignore[method-assign]
                case GELU(approximate="tanh"):
                    module.forward = MethodType(_gelu, module)


class SelfAttention:
    """diffusers attention processor: query, key and value are one product."""

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: Tensor,
        encoder_hidden_states: None,
        attention_mask: None,
        rotary_emb: tuple[Tensor, Tensor],
    ) -> Tensor:
        query, key, value = _joint_linear(hidden_states, attn.to_q, attn.to_k, attn.to_v)
        rotary = complex_rotation(*rotary_emb)
        query, key = _normalised(query, attn.norm_q, rotary), _normalised(key, attn.norm_k, rotary)
        return _attend(attn, query, key, value, None)


class CrossAttention:
    """diffusers attention processor. bias: of the text tokens' logits in the next forward, b 1 1 n."""

    bias: Tensor | None = None

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: None,
        rotary_emb: None,
    ) -> Tensor:
        query = _normalised(attn.to_q(hidden_states), attn.norm_q)
        key, value = _joint_linear(encoder_hidden_states, attn.to_k, attn.to_v)
        return _attend(attn, query, _normalised(key, attn.norm_k), value, self.bias)


def _attend(attn: WanAttention, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    """All of them b n d."""
    query, key, value = (each.unflatten(2, (attn.heads, -1)).transpose(1, 2) for each in (query, key, value))
    attended: Tensor = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    projected: Tensor = attn.to_out[0](attended.transpose(1, 2).flatten(2, 3))
    return projected


def _joint_linear(x: Tensor, *layers: nn.Linear) -> tuple[Tensor, ...]:
    """The layers' outcomes, by one product."""
    weight, bias = torch.cat([layer.weight for layer in layers]), torch.cat([layer.bias for layer in layers])
    return _product(x, weight, bias).split([layer.out_features for layer in layers], dim=-1)


def _linear(self: nn.Linear, x: Tensor) -> Tensor:
    return _product(x, self.weight, self.bias)


def _product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if not IS_BF16_FAST:
        return F.linear(x, weight, bias)
    return Bf16Linear.apply(x, weight, bias)


def _normalised(x: Tensor, norm: nn.RMSNorm, rotary: Tensor | None = None) -> Tensor:
    """b n d; rotary: 1 n 1 head_dim/2, complex."""
    return NormAndRotation.apply(x, norm.weight, norm.eps, rotary)


def _gelu(self: GELU, hidden_states: Tensor) -> Tensor:
    return TanhGelu.apply(self.proj(hidden_states))


class Bf16Linear(torch.autograd.Function):
    """fp32 in and out, the three matrix products in bf16."""

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


class NormAndRotation(torch.autograd.Function):
    """RMSNorm over the last axis, then, where there is a rotation, that of each pair of numbers.

    x: b n d; weight: d; rotary: 1 n 1 p, complex, for heads of 2 p numbers.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, rotary: Tensor | None) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse = (length.square_() / x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, inverse, rotary)
        if rotary is None:
            return (x * weight).mul_(inverse)
        # The rotation is smaller than x by the number of heads: scaling it saves a pass over x.
        return _rotated(x * weight, rotary * inverse[..., None])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, weight, inverse, rotary = ctx.saved_tensors
        if rotary is not None:
            gradient = _rotated(gradient.contiguous(), rotary.conj().resolve_conj())
        # y = w x / r, r² = mean(x²) + eps: dx = (w g - x mean(w g x) / r²) / r
        product = (gradient * x).flatten(0, 1)
        along = product.mv(weight).view_as(inverse) * inverse.square() / x.shape[-1]
        change = torch.addcmul(gradient * weight, x, along, value=-1).mul_(inverse)
        return change, product.t().mv(inverse.flatten()), None, None


def _rotated(x: Tensor, rotary: Tensor) -> Tensor:
    """x: b n d; rotary: … n 1 p, complex."""
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, rotary.shape[-1], 2)))
    return torch.view_as_real(pairs * rotary).flatten(2)


class TanhGelu(torch.autograd.Function):
    """GELU in its tanh form is x s, s = sigmoid(u), u = a x + b x³: exp takes a fourth of tanh's time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        gate = torch.addcmul(x.new_tensor(GELU_SLOPE), x, x, value=GELU_CUBIC).mul_(x).sigmoid_()
        ctx.save_for_backward(x, gate)
        return x * gate

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        x, gate = ctx.saved_tensors
        # s + x s (1 - s) u', and x u' = a x + 3 b x³
        change = torch.addcmul(x.new_tensor(GELU_SLOPE), x, x, value=3 * GELU_CUBIC).mul_(x)
        change.addcmul_(change, gate, value=-1).add_(1)
        return change.mul_(gate).mul_(gradient)
