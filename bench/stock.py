"""The rival: diffusers' own WanPipeline on the embedded checkpoint."""

from typing import Literal

import torch
from diffusers import UniPCMultistepScheduler, WanPipeline

from model.folder import embedded_path
from model.params import GenerationParams


def load_stock() -> WanPipeline:
    pipeline = WanPipeline.from_pretrained(embedded_path(), dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def run_stock(
    pipeline: WanPipeline,
    params: GenerationParams,
    output_type: Literal["np", "latent"] = "np",
    *,
    batch_size: int = 1,
) -> None:
    """From the prompt to decoded frames, or to latents."""
    pipeline.scheduler = UniPCMultistepScheduler.from_config(pipeline.scheduler.config, flow_shift=params.flow_shift)
    pipeline(
        [params.prompt] * batch_size,
        negative_prompt=[params.negative_prompt] * batch_size,
        width=params.width,
        height=params.height,
        num_frames=params.num_frames,
        num_inference_steps=params.num_inference_steps,
        guidance_scale=params.guidance_scale,
        guidance_scale_2=params.guidance_scale_2,
        generator=torch.Generator("cpu").manual_seed(params.seed),
        output_type=output_type,
    )
