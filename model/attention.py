"""Attention inside a block: video tokens to each other, and to the text."""

from collections.abc import Sequence

import torch
from diffusers import WanTransformer3DModel
from diffusers.models.attention_dispatch import AttentionBackendName, dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import WanAttention
from torch import nn
from torch.nn import functional as F

from model.linear_layers import constant, linear
from model.text import TextKeysValues


def rotary_table(transformer: WanTransformer3DModel, latents: torch.Tensor) -> torch.Tensor:
    """The rotation of each token's feature pairs: 1 s 1 head_dim/2, complex64."""
    return complex_rotation(*transformer.rope(latents))


def complex_rotation(cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """From diffusers' table, 1 s 1 head_dim each, in which every angle stands twice, once for each number of a pair."""
    return torch.complex(cos[..., 0::2].float(), sin[..., 0::2].float())


class SelfAttention:
    """diffusers attention processor: the stock one, but with the rotation as one complex product."""

    _attention_backend: AttentionBackendName | None = None
    _parallel_config = None

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: None,
        attention_mask: None,
        rotary_emb: torch.Tensor,
    ) -> torch.Tensor:
        query = _rotate(attn.to_q(hidden_states), attn.norm_q, heads=attn.heads, rotary=rotary_emb)
        key = _rotate(attn.to_k(hidden_states), attn.norm_k, heads=attn.heads, rotary=rotary_emb)
        value = attn.to_v(hidden_states).unflatten(2, (attn.heads, -1))
        return attn.to_out[0](self._attend(query, key, value).flatten(2, 3).type_as(query))

    def _attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """All of them b s heads head_dim."""
        if self._attention_backend is not AttentionBackendName.NATIVE:
            return dispatch_attention_fn(
                query, key, value, backend=self._attention_backend, parallel_config=self._parallel_config
            )
        attended = F.scaled_dot_product_attention(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))
        return attended.transpose(1, 2)


class JointSelfAttention(SelfAttention):
    """The same in float32 on a CPU, in fewer passes: query, key and value are one matrix product.

    Takes over attn's weights: they become parts of its own, in the same place for good. Whoever overwrites them does
    it in place.
    """

    def __init__(self, attn: WanAttention) -> None:
        layers, norms = (attn.to_q, attn.to_k, attn.to_v), (attn.norm_q, attn.norm_k)
        self._weight = lay_together([layer.weight for layer in layers])
        self._bias = lay_together([layer.bias for layer in layers])
        self._norm_weight = lay_together([norm.weight for norm in norms]).unflatten(0, (2, -1))
        self._eps = norm_eps(attn.norm_q)

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: None,
        attention_mask: None,
        rotary_emb: torch.Tensor,
    ) -> torch.Tensor:
        features = linear(hidden_states, self._weight, self._bias).unflatten(2, (3, -1))
        query, key = _scale_and_rotate(
            features[:, :, :2], self._norm_weight, self._eps, heads=attn.heads, rotary=rotary_emb.unsqueeze(2)
        ).unbind(2)
        value = features[:, :, 2].unflatten(2, (attn.heads, -1))
        return attn.to_out[0](self._attend(query, key, value).flatten(2, 3))


def join_self_attentions(transformer: WanTransformer3DModel) -> None:
    """For float32 on a CPU, and weights that are only ever overwritten in place."""
    for block in transformer.blocks:
        block.attn1.set_processor(JointSelfAttention(block.attn1))


def lay_together(parameters: Sequence[nn.Parameter]) -> torch.Tensor:
    """One tensor of them all along their first axis; each becomes a view of its part."""
    joint = torch.cat([parameter.data for parameter in parameters])
    for parameter, part in zip(parameters, joint.split([len(each) for each in parameters]), strict=True):
        parameter.data = part
    return joint


class CrossAttention:
    """diffusers attention processor: reads ready-made text keys and values instead of computing them anew."""

    _attention_backend = None
    _parallel_config = None

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: TextKeysValues,
        attention_mask: None,
        rotary_emb: None,
    ) -> torch.Tensor:
        key, value, bias = encoder_hidden_states
        query = _normalise(attn.to_q(hidden_states), attn.norm_q).unflatten(2, (attn.heads, -1)).transpose(1, 2)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return attn.to_out[0](attended.transpose(1, 2).flatten(2, 3))


def _rotate(features: torch.Tensor, norm: nn.RMSNorm, *, heads: int, rotary: torch.Tensor) -> torch.Tensor:
    """Normalised over all heads, b s d, then rotated: b s heads head_dim."""
    if not _is_slow_at_norms(features):
        # By the same name, so that what was normalised does not stay in memory.
        features = norm(features)
        return _product(features.unflatten(2, (heads, -1)), rotary)
    return _scale_and_rotate(features, norm.weight, norm_eps(norm), heads=heads, rotary=rotary)


def _scale_and_rotate(
    features: torch.Tensor, weight: torch.Tensor, eps: float, *, heads: int, rotary: torch.Tensor
) -> torch.Tensor:
    """Normalised over the last axis, b s ... d, then rotated: b s ... heads head_dim."""
    # The table is smaller than the features by the number of heads: scaling it saves a pass over them.
    scaled = rotary * inverse_size(features, eps)[..., None]
    return _product((features * weight).unflatten(-1, (heads, -1)), scaled)


def _normalise(features: torch.Tensor, norm: nn.RMSNorm) -> torch.Tensor:
    if not _is_slow_at_norms(features):
        return norm(features)
    return features * inverse_size(features, norm_eps(norm)) * norm.weight


def norm_eps(norm: nn.RMSNorm) -> float:
    """PyTorch's own where none is given."""
    return torch.finfo(torch.float32).eps if norm.eps is None else norm.eps


def _is_slow_at_norms(features: torch.Tensor) -> bool:
    """PyTorch has no kernel of its own for RMSNorm on a CPU: it takes five passes."""
    return features.is_cpu and features.dtype == torch.float32


def inverse_size(features: torch.Tensor, eps: float) -> torch.Tensor:
    """One over the root mean square of the last axis, b s ... 1."""
    length = torch.linalg.vector_norm(features, dim=-1, keepdim=True)
    return torch.addcmul(constant(eps), length, length, value=1 / features.shape[-1]).rsqrt_()


def _product(features: torch.Tensor, rotary: torch.Tensor) -> torch.Tensor:
    pairs = torch.view_as_complex(features.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rotary).flatten(-2).type_as(features)
