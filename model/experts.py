"""The two denoisers of a checkpoint, and what is done to each before it can be used."""

from dataclasses import dataclass
from typing import Literal

import torch
from diffusers import WanTransformer3DModel
from diffusers.models.activations import GELU

from model.block import Block
from model.denoise import CrossAttention, SelfAttention

ExpertName = Literal["high_noise", "low_noise"]


@dataclass(frozen=True, slots=True)
class Experts:
    """Both as they were loaded. Which of them lies on the device, and when, is residency.py's business."""

    high_noise: WanTransformer3DModel
    low_noise: WanTransformer3DModel

    def __getitem__(self, name: ExpertName) -> WanTransformer3DModel:
        match name:
            case "high_noise":
                return self.high_noise
            case "low_noise":
                return self.low_noise


def use_own_blocks(transformer: WanTransformer3DModel) -> None:
    """Makes every block ours; from then on only predict_velocities() can run this transformer."""
    for block in transformer.blocks:
        # The class alone changes: weights, their names and the module's place stay.
        block.__class__ = Block
        block.attn1.set_processor(SelfAttention())
        block.attn2.set_processor(CrossAttention())


def use_fused_gelu(transformer: WanTransformer3DModel) -> None:
    """For float32 on a CPU. Does nothing where PyTorch was built without oneDNN."""
    if not torch.backends.mkldnn.is_available():
        return
    for block in transformer.blocks:
        block.ffn.net[0].__class__ = FusedGelu


class FusedGelu(GELU):
    """The feed-forward's first half. Apart, the activation takes as long as the matrix product itself."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        proj = self.proj
        return torch.ops.mkldnn._linear_pointwise(hidden_states, proj.weight, proj.bias, "gelu", [], "tanh")
