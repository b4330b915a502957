"""From latents to pixels, one latent frame at a time, so that encoding can start before decoding ends."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, WanDecoder3d
from numpy.typing import NDArray

FrameMemory = list[Any]
"""What each causal convolution keeps of the frames before: a tensor or None, or a word of diffusers' own."""

SMALL_FRAME_SITES = 64 * 64
"""Behind the last upsampling in time. Frames up to this size go on together: calls would cost more than arithmetic."""


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
    for [chunk] in decode_stack(vae, latents, state):
        yield chunk


def decode_stack(
    vae: AutoencoderKLWan, latents: torch.Tensor, state: DecodeState | None = None
) -> Iterator[NDArray[np.uint8]]:
    """The same for several videos at once: latents b c f h w, pixels b f h w 3; state: of all of them."""
    state = DecodeState() if state is None else state
    while state.completed_latent_frames < latents.shape[2]:
        yield _next_chunk(vae, latents, state)


def _next_chunk(vae: AutoencoderKLWan, latents: torch.Tensor, state: DecodeState) -> NDArray[np.uint8]:
    """b f h w 3."""
    frame = state.completed_latent_frames
    # A chunk that fails leaves some convolutions a frame ahead of others: then no memory stays.
    memory, state.memory = _memory_before(vae, state), None
    hidden = vae.post_quant_conv(_unnormalised(vae, latents[:, :, frame : frame + 1].to(vae.dtype)))
    pixels = _pixels(_decode(vae.decoder, hidden, memory))
    state.completed_latent_frames, state.memory = frame + 1, memory
    return pixels


def _decode(decoder: WanDecoder3d, hidden: torch.Tensor, memory: FrameMemory) -> torch.Tensor:
    """One latent frame b c 1 h w -> b 3 f h w; updates the memory.

    What diffusers' decoder does, but behind the last upsampling in time large frames go on one by one: the largest
    tensors are there, and a quarter of them at a time is less to hold.
    """
    position = [0]
    hidden = _convolve(decoder.conv_in, hidden, memory, position)
    hidden = decoder.mid_block(hidden, feat_cache=memory, feat_idx=position)
    first_blocks, last_blocks = _split(decoder)
    for block in first_blocks:
        hidden = block(hidden, feat_cache=memory, feat_idx=position)
    parts = hidden.split(1, dim=2) if math.prod(hidden.shape[-2:]) > SMALL_FRAME_SITES else [hidden]
    return torch.cat([_finish(decoder, last_blocks, part, memory, position.copy()) for part in parts], dim=2)


def _finish(
    decoder: WanDecoder3d,
    blocks: list[torch.nn.Module],
    hidden: torch.Tensor,
    memory: FrameMemory,
    position: list[int],
) -> torch.Tensor:
    """What is left to do for frames b c f h w. position: of their first causal convolution in the memory."""
    for block in blocks:
        hidden = block(hidden, feat_cache=memory, feat_idx=position)
    hidden = decoder.nonlinearity(decoder.norm_out(hidden))
    return _convolve(decoder.conv_out, hidden, memory, position)


def _split(decoder: WanDecoder3d) -> tuple[list[torch.nn.Module], list[torch.nn.Module]]:
    """The blocks up to the last upsampling in time, and those after it."""
    blocks = list(decoder.up_blocks)
    in_time = [i for i, block in enumerate(blocks) if block.upsamplers and block.upsamplers[0].mode == "upsample3d"]
    first = max(in_time, default=-1) + 1
    return blocks[:first], blocks[first:]


def _convolve(
    convolution: WanCausalConv3d, hidden: torch.Tensor, memory: FrameMemory, position: list[int]
) -> torch.Tensor:
    """Sees the last two frames before these, and keeps the last two for those that come."""
    before = memory[position[0]]
    # A view would keep all of what it is cut from.
    last = hidden[:, :, -2:].clone()
    if last.shape[2] < 2 and before is not None:
        last = torch.cat([before[:, :, -1:], last], dim=2)
    memory[position[0]] = last
    position[0] += 1
    return convolution(hidden, before)


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
    """b 3 f h w in -1..1 -> b f h w 3 in 0..255."""
    levels = (chunk.clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)
    return levels.permute(0, 2, 3, 4, 1).contiguous().cpu().numpy()
