"""From latents to pixels, one latent frame at a time, so that encoding can start before decoding ends."""

from collections.abc import Iterator

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d
from numpy.typing import NDArray


def decode_chunks(vae: AutoencoderKLWan, latents: torch.Tensor) -> Iterator[NDArray[np.uint8]]:
    """Pixels f h w 3 of each latent frame in turn: one frame, then temporal_stride frames every time.

    latents: 1 c f h w as the denoiser makes them, in any float dtype. The causal decoder's memory of earlier
    frames lives in this call, not on the module, so that several decodes can be under way; the values equal
    those of vae.decode() bit by bit.
    """
    hidden = vae.post_quant_conv(_unnormalised(vae, latents.to(vae.dtype)))
    memory: list[torch.Tensor | str | None] = [None] * _num_causal_convolutions(vae.decoder)
    for frame in range(hidden.shape[2]):
        chunk = vae.decoder(hidden[:, :, frame : frame + 1], feat_cache=memory, feat_idx=[0], first_chunk=frame == 0)
        yield _pixels(chunk)


def _unnormalised(vae: AutoencoderKLWan, latents: torch.Tensor) -> torch.Tensor:
    """The denoiser works on latents of zero mean and unit variance in each channel."""
    mean, std = (
        torch.tensor(values, dtype=latents.dtype, device=latents.device).view(1, -1, 1, 1, 1)
        for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    return latents * std + mean


def _num_causal_convolutions(decoder: torch.nn.Module) -> int:
    return sum(isinstance(module, WanCausalConv3d) for module in decoder.modules())


def _pixels(chunk: torch.Tensor) -> NDArray[np.uint8]:
    """1 3 f h w in -1..1 -> f h w 3 in 0..255."""
    levels = (chunk[0].clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)
    return levels.permute(1, 2, 3, 0).contiguous().cpu().numpy()
