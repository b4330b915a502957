"""One look at latents by one expert: the velocity that it predicts. Keeps nothing between calls."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from diffusers import WanTransformer3DModel
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import WanAttention, WanTimeTextImageEmbedding
from torch import nn
from torch.nn import functional as F

from model.text import TextKeysValues


@dataclass(frozen=True, slots=True)
class Stack:
    """Requests of one latent shape that go through an expert as one tensor, each with a row a prompt."""

    latents: torch.Tensor
    """n c f h w, float32."""

    timesteps: tuple[int, ...]
    """n."""

    num_rows: tuple[int, ...]
    """How many rows each of the n requests has: two with guidance, else one. b is their sum."""

    text: list[TextKeysValues]
    """One entry a block, b rows, a request's rows side by side."""

    rotary: torch.Tensor
    """rotary_table() of the latents' shape."""


def predict_velocities(transformer: WanTransformer3DModel, stacks: Sequence[Stack]) -> list[torch.Tensor]:
    """Velocity (noise - clean) of every stack's rows, b c f h w in float32.

    Several stacks run layer by layer: each block's weights are fetched once for all, but no stack's arithmetic
    knows of the others, so that its numbers are those that it would get alone, bit by bit.
    """
    flows = [_enter(transformer, stack) for stack in stacks]
    hidden = [flow.hidden for flow in flows]
    for index, block in enumerate(transformer.blocks):
        hidden = [
            block(each, stack.text[index], flow.modulation, stack.rotary)
            for each, stack, flow in zip(hidden, stacks, flows, strict=True)
        ]
    return [
        _leave(transformer, each, flow.time_embeds, stack.latents.shape)
        for each, stack, flow in zip(hidden, stacks, flows, strict=True)
    ]


class _Flow(NamedTuple):
    """A stack inside the transformer: tokens b s d, time embedding b d, and the modulation b 6 d it gives blocks."""

    hidden: torch.Tensor
    time_embeds: torch.Tensor
    modulation: torch.Tensor


def _enter(transformer: WanTransformer3DModel, stack: Stack) -> _Flow:
    weight = transformer.proj_out.weight
    hidden = transformer.patch_embedding(stack.latents.to(weight.dtype)).flatten(2).transpose(1, 2)
    time_embeds, modulation = _embed_timesteps(transformer.condition_embedder, stack.timesteps, like=weight)
    flow = _Flow(hidden, time_embeds, modulation)
    if set(stack.num_rows) == {1}:
        return flow
    owners = itertools.chain.from_iterable(itertools.repeat(i, n) for i, n in enumerate(stack.num_rows))
    rows = torch.tensor(list(owners), device=hidden.device)
    return _Flow(*(tensor.index_select(0, rows) for tensor in flow))


def _leave(
    transformer: WanTransformer3DModel, hidden: torch.Tensor, time_embeds: torch.Tensor, shape: torch.Size
) -> torch.Tensor:
    shift, scale = (transformer.scale_shift_table + time_embeds.unsqueeze(1)).chunk(2, dim=1)
    hidden = (transformer.norm_out(hidden.float()) * (1 + scale) + shift).type_as(hidden)
    return _unpatchify(transformer.proj_out(hidden), shape, transformer.config.patch_size).float()


def guide(velocity: torch.Tensor, num_rows: Sequence[int], guidance_scales: Sequence[float]) -> torch.Tensor:
    """Classifier-free guidance: b c f h w -> n c f h w.

    A request with two rows has its prompt's first, then the negative one's; a single row stays as it is.
    """
    conditional, unconditional = _first_and_last(velocity, num_rows)
    scales = velocity.new_tensor(guidance_scales).view(-1, 1, 1, 1, 1)
    # Of a single row both are the same, and the difference vanishes.
    return torch.lerp(unconditional, conditional, scales)


def _first_and_last(velocity: torch.Tensor, num_rows: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Each request's first and last row; views where all have equally many."""
    if len(set(num_rows)) == 1:
        rows = velocity.unflatten(0, (-1, num_rows[0]))
        return rows[:, 0], rows[:, -1]
    ends = list(itertools.accumulate(num_rows))
    first = [end - rows for end, rows in zip(ends, num_rows, strict=True)]
    last = [end - 1 for end in ends]
    return velocity[torch.tensor(first, device=velocity.device)], velocity[torch.tensor(last, device=velocity.device)]


def rotary_table(transformer: WanTransformer3DModel, latents: torch.Tensor) -> torch.Tensor:
    """The rotation of each token's feature pairs: 1 s 1 head_dim/2, complex64."""
    cos, sin = transformer.rope(latents)
    # Every angle stands twice in a row, once for each number of a pair.
    return torch.complex(cos[..., 0::2].float(), sin[..., 0::2].float())


class SelfAttention:
    """diffusers attention processor: the stock one, but with the rotation as one complex product."""

    _attention_backend = None
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
        attended = dispatch_attention_fn(
            query, key, value, backend=self._attention_backend, parallel_config=self._parallel_config
        )
        return attn.to_out[0](attended.flatten(2, 3).type_as(query))


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
    # The table is smaller than the features by the number of heads: scaling it saves a pass over them.
    scaled = rotary * _inverse_size(features, norm)[..., None]
    return _product((features * norm.weight).unflatten(2, (heads, -1)), scaled)


def _normalise(features: torch.Tensor, norm: nn.RMSNorm) -> torch.Tensor:
    if not _is_slow_at_norms(features):
        return norm(features)
    return features * _inverse_size(features, norm) * norm.weight


def _is_slow_at_norms(features: torch.Tensor) -> bool:
    """PyTorch has no kernel of its own for RMSNorm on a CPU: it takes five passes."""
    return features.is_cpu and features.dtype == torch.float32


def _inverse_size(features: torch.Tensor, norm: nn.RMSNorm) -> torch.Tensor:
    """One over the root mean square, b s 1."""
    mean_square = torch.linalg.vector_norm(features, dim=-1, keepdim=True).square() / features.shape[-1]
    return (mean_square + norm.eps).rsqrt()


def _product(features: torch.Tensor, rotary: torch.Tensor) -> torch.Tensor:
    pairs = torch.view_as_complex(features.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rotary).flatten(-2).type_as(features)


def _embed_timesteps(
    embedder: WanTimeTextImageEmbedding, timesteps: Sequence[int], *, like: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Time embedding n dim and the blocks' modulation n 6 dim; the embedder itself computes in float32."""
    positions = embedder.timesteps_proj(torch.tensor(timesteps, device=like.device))
    embedded = embedder.time_embedder(positions.to(embedder.time_embedder.linear_1.weight.dtype)).to(like.dtype)
    return embedded, embedder.time_proj(embedder.act_fn(embedded)).unflatten(1, (6, -1))


def _unpatchify(tokens: torch.Tensor, shape: torch.Size, patch_size: tuple[int, int, int]) -> torch.Tensor:
    """b s (patch c) -> b c f h w."""
    _, _, frames, height, width = shape
    p_t, p_h, p_w = patch_size
    grid = tokens.unflatten(1, (frames // p_t, height // p_h, width // p_w)).unflatten(-1, (p_t, p_h, p_w, -1))
    # b f h w p_t p_h p_w c -> b c (f p_t) (h p_h) (w p_w)
    return grid.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3)
