"""The text's keys and values for every block at once, in float32 on a CPU.

A prompt is so short there that calling a layer takes longer than what it computes: one product for all blocks takes
less than half the time of two for each.
"""

import torch
from diffusers import WanTransformer3DModel

from model.attention import inverse_size, lay_together, norm_eps
from model.linear_layers import linear

JOINT_BYTES = 1 << 26
"""Of weights that are worth laying together."""


class TextProjection:
    """Takes over the cross-attentions' weights: they become parts of its own, in the same place for good.

    Whoever overwrites them does it in place.
    """

    def __init__(self, transformer: WanTransformer3DModel) -> None:
        attentions = [block.attn2 for block in transformer.blocks]
        layers = [layer for each in attentions for layer in (each.to_k, each.to_v)]
        self._weight = lay_together([layer.weight for layer in layers])
        self._bias = lay_together([layer.bias for layer in layers])
        self._norm_weight = lay_together([each.norm_k.weight for each in attentions]).unflatten(
            0, (len(attentions), -1)
        )
        self._eps = norm_eps(attentions[0].norm_k)
        self._num_heads = attentions[0].heads

    def keys_values(self, text: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """text: b l d. Of each block: normalised keys, and values, both b heads l head_dim."""
        num_blocks = len(self._norm_weight)
        features = linear(text, self._weight, self._bias).unflatten(2, (num_blocks, 2, -1))
        keys, values = features.unbind(3)
        keys = keys * inverse_size(keys, self._eps) * self._norm_weight
        return list(zip(self._by_block(keys), self._by_block(values), strict=True))

    def _by_block(self, features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """b l n d -> n of b heads l head_dim."""
        return features.unflatten(3, (self._num_heads, -1)).permute(2, 0, 3, 1, 4).contiguous().unbind(0)


def join_text_projections(transformer: WanTransformer3DModel) -> None:
    """For float32 on a CPU, and weights that are only ever overwritten in place. Nothing where those are large:

    there products take longer than calls, and laying the weights together needs them twice.
    """
    width = transformer.blocks[0].attn2.to_k.weight
    if 2 * len(transformer.blocks) * width.nbytes > JOINT_BYTES:
        return
    transformer.text_projection = TextProjection(transformer)
