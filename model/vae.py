"""From latents to pixels, one latent frame at a time, so that encoding can start before decoding ends."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d
from numpy.typing import NDArray

FrameMemory = list[torch.Tensor | str | None]
"""What each causal convolution keeps of the frames before; diffusers marks some entries by a string."""


@dataclass(slots=True)
class DecodeState:
    """How far the decode of one video is. All that goes from chunk to chunk, none of it on the module."""

    completed_latent_frames: int = 0
    memory: FrameMemory | None = None
    """None before the first chunk, and after one that failed half-way."""

    def copy(self) -> "DecodeState":
        """A point to go on from again. Takes no memory of its own until one of the two goes on."""
        # Chunks replace tensors, and never write into them.
        memory = None if self.memory is None else list(self.memory)
        return DecodeState(self.completed_latent_frames, memory)


def decode_chunks(
    vae: AutoencoderKLWan, latents: torch.Tensor, state: DecodeState | None = None
) -> Iterator[NDArray[np.uint8]]:
    """Pixels f h w 3 of each latent frame in turn: one frame, then temporal_stride frames every time.

    latents: 1 c f h w as the denoiser makes them, in any float dtype. The values equal those of vae.decode() bit by
    bit, but what is held at a time does not grow with the number of frames. Several decodes can be under way.

    state: of a decode that was left; it goes on with the next chunk. Updated with every chunk, by the time that it
    is yielded. Raises ValueError for a state whose last chunk failed.
    """
    state = DecodeState() if state is None else state
    while state.completed_latent_frames < latents.shape[2]:
        yield _next_chunk(vae, latents, state)


def _next_chunk(vae: AutoencoderKLWan, latents: torch.Tensor, state: DecodeState) -> NDArray[np.uint8]:
    frame = state.completed_latent_frames
    # A chunk that fails leaves some convolutions a frame ahead of others: then no memory stays.
    memory, state.memory = _memory_before(vae, state), None
    hidden = vae.post_quant_conv(_unnormalised(vae, latents[:, :, frame : frame + 1].to(vae.dtype)))
    pixels = _pixels(vae.decoder(hidden, feat_cache=memory, feat_idx=[0], first_chunk=frame == 0))
    state.completed_latent_frames, state.memory = frame + 1, memory
    return pixels


def _memory_before(vae: AutoencoderKLWan, state: DecodeState) -> FrameMemory:
    if state.completed_latent_frames == 0:
        return [None] * _num_causal_convolutions(vae.decoder)
    if state.memory is None:
        raise ValueError(
            f"The decode failed after {state.completed_latent_frames} latent frames and can't go on: "
            "start with a new DecodeState, or from a copy() taken before."
        )
    return state.memory


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
