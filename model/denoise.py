"""One look at the latents by one expert: the velocity that it predicts. Keeps nothing between calls."""

import torch
from diffusers import WanTransformer3DModel
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import WanAttention, WanTimeTextImageEmbedding
from torch.nn import functional as F

from model.text import TextKeysValues


def predict_velocity(
    transformer: WanTransformer3DModel,
    latents: torch.Tensor,
    *,
    timestep: int,
    text: list[TextKeysValues],
    rotary: torch.Tensor,
) -> torch.Tensor:
    """Velocity (noise - clean) of each row of text, b c f h w in float32.

    latents: 1 c f h w, float32, shared by all rows; text: one entry a block, b rows; rotary: rotary_table().
    """
    weight = transformer.proj_out.weight
    hidden = transformer.patch_embedding(latents.to(weight.dtype)).flatten(2).transpose(1, 2)
    hidden = hidden.repeat(text[0].key.shape[0], 1, 1)
    time_embeds, modulation = _embed_timestep(transformer.condition_embedder, timestep, like=weight)
    for block, keys_values in zip(transformer.blocks, text, strict=True):
        hidden = block(hidden, keys_values, modulation, rotary)
    shift, scale = (transformer.scale_shift_table + time_embeds.unsqueeze(1)).chunk(2, dim=1)
    hidden = (transformer.norm_out(hidden.float()) * (1 + scale) + shift).type_as(hidden)
    return _unpatchify(transformer.proj_out(hidden), latents.shape, transformer.config.patch_size).float()


def guide(velocity: torch.Tensor, guidance_scale: float) -> torch.Tensor:
    """Classifier-free guidance. velocity: with the prompt, with the negative one; one row stays as is."""
    if velocity.shape[0] == 1:
        return velocity
    conditional, unconditional = velocity.chunk(2)
    return unconditional + guidance_scale * (conditional - unconditional)


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
        heads = (attn.heads, -1)
        query = _rotate(attn.norm_q(attn.to_q(hidden_states)).unflatten(2, heads), rotary_emb)
        key = _rotate(attn.norm_k(attn.to_k(hidden_states)).unflatten(2, heads), rotary_emb)
        value = attn.to_v(hidden_states).unflatten(2, heads)
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
        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, (attn.heads, -1)).transpose(1, 2)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return attn.to_out[0](attended.transpose(1, 2).flatten(2, 3))


def _rotate(features: torch.Tensor, rotary: torch.Tensor) -> torch.Tensor:
    pairs = torch.view_as_complex(features.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rotary).flatten(-2).type_as(features)


def _embed_timestep(
    embedder: WanTimeTextImageEmbedding, timestep: int, *, like: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Time embedding 1 dim and the blocks' modulation 1 6 dim; the embedder itself computes in float32."""
    position = embedder.timesteps_proj(torch.tensor([timestep], device=like.device))
    embedded = embedder.time_embedder(position.to(embedder.time_embedder.linear_1.weight.dtype)).to(like.dtype)
    return embedded, embedder.time_proj(embedder.act_fn(embedded)).unflatten(1, (6, -1))


def _unpatchify(tokens: torch.Tensor, shape: torch.Size, patch_size: tuple[int, int, int]) -> torch.Tensor:
    """b s (patch c) -> b c f h w."""
    _, _, frames, height, width = shape
    p_t, p_h, p_w = patch_size
    grid = tokens.unflatten(1, (frames // p_t, height // p_h, width // p_w)).unflatten(-1, (p_t, p_h, p_w, -1))
    # b f h w p_t p_h p_w c -> b c (f p_t) (h p_h) (w p_w)
    return grid.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3)
