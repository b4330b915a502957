"""diffusers' own WanPipeline, run on our parameters: what the engine must agree with."""

import numpy as np
import torch
from diffusers import UniPCMultistepScheduler, WanPipeline

from model.engine import Engine
from model.params import GenerationParams
from model.schedule import SigmaGrid


class OfficialGridScheduler(UniPCMultistepScheduler):
    """The stock scheduler on Wan's own grid of noise levels."""

    def set_timesteps(self, num_inference_steps, device=None, **ignored):  # type: ignore[no-untyped-def]
        largest = float(np.float32(0.999))
        super().set_timesteps(device=device, sigmas=np.linspace(largest, 0, num_inference_steps + 1)[:-1])


SCHEDULERS = {"diffusers": UniPCMultistepScheduler, "official": OfficialGridScheduler}


def stock_latents(pipeline: WanPipeline, params: GenerationParams, *, grid: SigmaGrid = "diffusers") -> torch.Tensor:
    """1 c f h w, before decoding."""
    return _run(pipeline, params, grid=grid, output_type="latent")


def stock_pixels(pipeline: WanPipeline, params: GenerationParams) -> np.ndarray:
    """f h w 3 in 0..255, not yet rounded."""
    return _run(pipeline, params, grid="diffusers", output_type="np")[0] * 255


def our_latents(engine: Engine, params: GenerationParams) -> torch.Tensor:
    request = engine.prepare(params)
    while not request.is_denoised:
        engine.step([request])
    return request.latents


def relative_error(ours: torch.Tensor, reference: torch.Tensor) -> float:
    return float((ours - reference).norm() / reference.norm())


def _run(pipeline: WanPipeline, params: GenerationParams, *, grid: SigmaGrid, output_type: str):  # type: ignore[no-untyped-def]
    pipeline.scheduler = SCHEDULERS[grid].from_config(pipeline.scheduler.config, flow_shift=params.flow_shift)
    return pipeline(
        prompt=params.prompt,
        negative_prompt=params.negative_prompt,
        width=params.width,
        height=params.height,
        num_frames=params.num_frames,
        num_inference_steps=params.num_inference_steps,
        guidance_scale=params.guidance_scale,
        guidance_scale_2=params.guidance_scale_2,
        generator=torch.Generator("cpu").manual_seed(params.seed),
        output_type=output_type,
    ).frames
