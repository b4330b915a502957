"""A transformer block as diffusers defines it, with fewer passes over its tokens."""

from collections.abc import Iterable

import torch
from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from torch import nn

from model.text import TextKeysValues

Modulation = tuple[torch.Tensor, ...]
"""What the noise level makes of a block: shift, factor and gate of its self-attention, then of its feed-forward.

b 1 d each, float32.
"""


class Block(WanTransformerBlock):
    """The weights and numbers of the stock block, but for rounding.

    Its attentions must have SelfAttention and CrossAttention as processors.
    """

    def forward(
        self,
        hidden: torch.Tensor,
        text: TextKeysValues,
        modulation: Modulation,
        rotary: torch.Tensor,
    ) -> torch.Tensor:
        """hidden b s d; modulation: modulations() of this block; rotary: rotary_table() of the latents' shape."""
        shift, factor, gate, ffn_shift, ffn_factor, ffn_gate = modulation
        normed = _modulated(self.norm1, hidden, shift=shift, factor=factor)
        hidden = _gated_sum(hidden, self.attn1(normed, None, None, rotary), gate)
        normed = self.norm2(hidden.float()).type_as(hidden)
        hidden = hidden + self.attn2(normed, text, None, None)
        normed = _modulated(self.norm3, hidden, shift=ffn_shift, factor=ffn_factor)
        return _gated_sum(hidden, self.ffn(normed), ffn_gate)


def modulations(blocks: Iterable[WanTransformerBlock], embedded: torch.Tensor) -> list[Modulation]:
    """Of every block at a batch's noise levels, all at once. embedded: b 6 d, from the time embedding."""
    changes = torch.stack([block.scale_shift_table for block in blocks]) + embedded.float()
    # What is scaled keeps its own value, too.
    changes[:, :, 1::3] += 1
    return [each.split(1, dim=1) for each in changes]


def _modulated(norm: nn.Module, hidden: torch.Tensor, *, shift: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return torch.addcmul(shift, norm(hidden.float()), factor).type_as(hidden)


def _gated_sum(hidden: torch.Tensor, change: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
    return torch.addcmul(hidden.float(), change.float(), gate).type_as(hidden)
