"""The two denoisers of a checkpoint, and what is done to each before it can be used."""

from dataclasses import dataclass
from typing import Literal

from diffusers import WanTransformer3DModel

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


def use_own_attention(transformer: WanTransformer3DModel) -> None:
    """Puts our processors into every block; from then on only predict_velocities() can run this transformer."""
    for block in transformer.blocks:
        block.attn1.set_processor(SelfAttention())
        block.attn2.set_processor(CrossAttention())
