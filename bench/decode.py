"""What does decoding hold, and does streaming it cost time? Against diffusers' own decode(): `python -m bench.decode`.

Bytes are those of live tensors beside weights and latents, counted operator by operator; they are the same on any
machine. Times are medians of interleaved runs.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator

import torch
from diffusers import AutoencoderKLWan

from bench.live_memory import LiveMemory
from bench.report import Figure, report
from model.folder import open_folder
from model.loader import load_parts
from model.vae import decode_chunks

GOAL = 1.2
"""Extra memory of a long video by that of a short one."""

SHORT, LONG = 41, 161
"""Frames."""

LATENT_SIDE = 8
ROUNDS = int(os.environ.get("ROUNDS", "5"))

Decode = Callable[[AutoencoderKLWan, torch.Tensor], None]


def main() -> int:
    folder = open_folder("embedded")
    vae = load_parts(folder, device="cpu", dtype="float32").vae
    stock = AutoencoderKLWan.from_pretrained(folder.path / "vae", local_files_only=True).eval()
    latents = {n: make_latents(n, stride=folder.shape.frame_stride) for n in (SHORT, LONG)}
    with torch.inference_mode():
        return report(figures(vae, stock, latents))


def figures(vae: AutoencoderKLWan, stock: AutoencoderKLWan, latents: dict[int, torch.Tensor]) -> Iterator[Figure]:
    streamed = {n: peak_bytes(stream, vae, latents[n]) for n in (SHORT, LONG)}
    for n in (SHORT, LONG):
        yield Figure(f"streamed, {n} frames: extra memory", streamed[n] / 1e6, "MB")
    whole = peak_bytes(decode_whole, stock, latents[LONG])
    yield Figure(f"diffusers' own, {LONG} frames: extra memory", whole / 1e6, "MB")
    yield Figure(f"streamed memory: {LONG} / {SHORT} frames", streamed[LONG] / streamed[SHORT], goal=GOAL)
    ratios = []
    for _ in range(ROUNDS):
        own = seconds(decode_whole, stock, latents[SHORT])
        ratios.append(seconds(stream, vae, latents[SHORT]) / own)
    yield Figure(f"time: streamed / diffusers' own, {SHORT} frames", statistics.median(ratios))


def make_latents(num_frames: int, *, stride: int) -> torch.Tensor:
    shape = (1, 16, (num_frames - 1) // stride + 1, LATENT_SIDE, LATENT_SIDE)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def stream(vae: AutoencoderKLWan, latents: torch.Tensor) -> None:
    """As an encoder takes it: a chunk is gone when the next one comes."""
    for _chunk in decode_chunks(vae, latents):
        pass


def decode_whole(vae: AutoencoderKLWan, latents: torch.Tensor) -> None:
    vae.decode(latents)


def peak_bytes(decode: Decode, vae: AutoencoderKLWan, latents: torch.Tensor) -> int:
    with LiveMemory() as live:
        decode(vae, latents)
    return live.peak_bytes


def seconds(decode: Decode, vae: AutoencoderKLWan, latents: torch.Tensor) -> float:
    started = time.perf_counter()
    decode(vae, latents)
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
