"""The two denoisers of a checkpoint, and what is done to each before it can be used."""

from dataclasses import dataclass
from typing import Literal

from diffusers import WanTransformer3DModel

from model.attention import CrossAttention, SelfAttention
from model.block import Block

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
