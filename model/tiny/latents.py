"""Encode the training clips once: normalised latents beside the scenes they show."""

import random
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor

from model.tiny.autoencoder import encode, for_training, latent_statistics
from model.tiny.plan import Plan
from model.tiny.ranks import NUM_RANKS, run_ranks, step_rng
from model.tiny.render import render
from model.tiny.world import FAST_HOP, HOP, Scene, draw_path, draw_scene

CHUNK = 8
COLOUR_JITTER = 8
"""Every clip's two colours are off by up to this much, so that no clip is seen twice and none is learned by heart."""


@dataclass(frozen=True, slots=True)
class LatentSet:
    """Scenes and their latents  # n 16 f h w (float16, zero mean and unit variance a channel)"""

    scenes: list[Scene]
    latents: Tensor

    @classmethod
    def load(cls, file: Path) -> "LatentSet":
        stored = torch.load(file, weights_only=False)
        return cls(stored["scenes"], stored["latents"])

    def save(self, file: Path) -> None:
        torch.save({"scenes": self.scenes, "latents": self.latents}, file)


def encode_latents(work: Path, plan: Plan) -> None:
    """Write work/latents.pt, and work/vae_normalised: work/vae with the channel statistics in its config."""
    scenes, means, variances = _encode_clips(work, "latents", plan, FAST_HOP)
    mean = means.mean((0, 2, 3, 4))
    std = (means.var((0, 2, 3, 4)) + variances.mean((0, 2, 3, 4))).sqrt()
    vae = AutoencoderKLWan.from_pretrained(work / "vae")
    vae.register_to_config(latents_mean=mean.tolist(), latents_std=std.tolist())
    vae.save_pretrained(work / "vae_normalised")
    LatentSet(scenes, _normalised(means, vae)).save(work / "latents.pt")


def encode_calm_latents(work: Path, plan: Plan) -> None:
    """Write work/latents_calm.pt: the world as it ships, under the statistics of work/vae_normalised."""
    scenes, means, _ = _encode_clips(work, "latents_calm", plan, HOP)
    vae = AutoencoderKLWan.from_pretrained(work / "vae_normalised")
    LatentSet(scenes, _normalised(means, vae)).save(work / "latents_calm.pt")


def _normalised(means: Tensor, vae: AutoencoderKLWan) -> Tensor:
    mean, std = latent_statistics(vae)
    return ((means - mean) / std).half()


def _encode_clips(work: Path, name: str, plan: Plan, hop: float) -> tuple[list[Scene], Tensor, Tensor]:
    """Scenes, posterior means and variances, encoded by all ranks  # n, n 16 f h w, n 16 f h w"""
    run_ranks(_encode, str(work), name, plan.num_clips // NUM_RANKS // CHUNK, hop)
    files = [work / f"{name}-{rank}.pt" for rank in range(NUM_RANKS)]
    parts = [torch.load(file, weights_only=False) for file in files]
    for file in files:
        file.unlink()
    scenes = [scene for part in parts for scene in part["scenes"]]
    return scenes, torch.cat([p["means"] for p in parts]), torch.cat([p["variances"] for p in parts])


@torch.no_grad()
def _encode(rank: int, work_dir: str, name: str, num_chunks: int, hop: float) -> None:
    work, began = Path(work_dir), time.monotonic()
    vae = for_training(AutoencoderKLWan.from_pretrained(work / "vae")).eval()
    scenes: list[Scene] = []
    means, variances = [], []
    for chunk in range(num_chunks):
        rng = step_rng(name, rank, chunk)
        drawn = [draw_scene(rng, held_out=False) for _ in range(CHUNK)]
        clips = _jitter(render(drawn, [draw_path(scene, rng, hop=hop) for scene in drawn]), rng)
        with torch.autocast("cpu", torch.bfloat16):
            mean, log_variance = encode(vae, clips.contiguous(memory_format=torch.channels_last_3d))
        scenes += drawn
        means.append(mean)
        variances.append(log_variance.exp())
    state = {"scenes": scenes, "means": torch.cat(means), "variances": torch.cat(variances)}
    torch.save(state, work / f"{name}-{rank}.pt")
    print(f"{name} rank {rank}: {len(scenes)} clips in {time.monotonic() - began:.0f} s", flush=True)


def _jitter(clips: Tensor, rng: random.Random) -> Tensor:
    """Move the black end and the white end of every channel a little: a linear change keeps edges clean."""
    for clip in clips:
        for channel in clip:
            low, high = (rng.uniform(-COLOUR_JITTER, COLOUR_JITTER) / 127.5 for _ in range(2))
            channel.copy_(torch.lerp(channel + low, channel + high, (channel + 1) / 2).clamp(-1, 1))
    return clips
