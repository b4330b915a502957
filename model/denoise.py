"""One look at latents by one expert: the velocity that it predicts. Keeps nothing between calls."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanTimeTextImageEmbedding

from model.block import Modulation, modulations
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
    """attention.rotary_table() of the latents' shape."""


def predict_velocities(transformer: WanTransformer3DModel, stacks: Sequence[Stack]) -> list[torch.Tensor]:
    """Velocity (noise - clean) of every stack's rows, b c f h w in float32.

    Several stacks run layer by layer: each block's weights are fetched once for all, but no stack's arithmetic
    knows of the others, so that its numbers are those that it would get alone, bit by bit.
    """
    flows = [_enter(transformer, stack) for stack in stacks]
    hidden = [flow.hidden for flow in flows]
    for index, block in enumerate(transformer.blocks):
        hidden = [
            block(each, stack.text[index], flow.modulations[index], stack.rotary)
            for each, stack, flow in zip(hidden, stacks, flows, strict=True)
        ]
    return [
        _leave(transformer, each, flow.time_embeds, stack.latents.shape)
        for each, stack, flow in zip(hidden, stacks, flows, strict=True)
    ]


class _Flow(NamedTuple):
    """A stack inside the transformer."""

    hidden: torch.Tensor
    """b s d."""

    time_embeds: torch.Tensor
    """b d."""

    modulations: list[Modulation]
    """One a block."""


def _enter(transformer: WanTransformer3DModel, stack: Stack) -> _Flow:
    weight = transformer.proj_out.weight
    hidden = transformer.patch_embedding(stack.latents.to(weight.dtype)).flatten(2).transpose(1, 2)
    time_embeds, embedded = _embed_timesteps(transformer.condition_embedder, stack.timesteps, like=weight)
    if set(stack.num_rows) != {1}:
        owners = itertools.chain.from_iterable(itertools.repeat(i, n) for i, n in enumerate(stack.num_rows))
        rows = torch.tensor(list(owners), device=hidden.device)
        hidden, time_embeds, embedded = (each.index_select(0, rows) for each in (hidden, time_embeds, embedded))
    return _Flow(hidden, time_embeds, modulations(transformer.blocks, embedded))


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
