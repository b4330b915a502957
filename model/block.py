"""A transformer block as diffusers defines it, with fewer passes over its tokens."""

import torch
from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from torch import nn

from model.text import TextKeysValues


class Block(WanTransformerBlock):
    """The weights and numbers of the stock block, but for rounding.

    Its attentions must have SelfAttention and CrossAttention as processors.
    """

    def forward(
        self,
        hidden: torch.Tensor,
        text: TextKeysValues,
        modulation: torch.Tensor,
        rotary: torch.Tensor,
    ) -> torch.Tensor:
        """hidden b s d; modulation b 6 d; rotary: rotary_table() of the latents' shape."""
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = (self.scale_shift_table + modulation.float()).chunk(6, 1)
        normed = _modulated(self.norm1, hidden, shift=shift, scale=scale)
        hidden = _gated_sum(hidden, self.attn1(normed, None, None, rotary), gate)
        normed = self.norm2(hidden.float()).type_as(hidden)
        hidden = hidden + self.attn2(normed, text, None, None)
        normed = _modulated(self.norm3, hidden, shift=ffn_shift, scale=ffn_scale)
        return _gated_sum(hidden, self.ffn(normed), ffn_gate)


def _modulated(norm: nn.Module, hidden: torch.Tensor, *, shift: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return torch.addcmul(shift, norm(hidden.float()), 1 + scale).type_as(hidden)


def _gated_sum(hidden: torch.Tensor, change: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
    return torch.addcmul(hidden.float(), change.float(), gate).type_as(hidden)
