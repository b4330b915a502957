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
from model.tiny.precision import autocast
from model.tiny.ranks import NUM_RANKS, run_ranks, step_rng
from model.tiny.render import render
from model.tiny.world import Scene, draw_path, draw_training_scene

CHUNK = 8
STAR_SHARE, DEFAULT_SHARE = 0.3, 0.04
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
    run_ranks(_encode, str(work), plan.num_clips // NUM_RANKS // CHUNK)
    files = [work / f"latents-{rank}.pt" for rank in range(NUM_RANKS)]
    parts = [torch.load(file, weights_only=False) for file in files]
    means, variances = (torch.cat([part[name] for part in parts]) for name in ("means", "variances"))
    mean = means.mean((0, 2, 3, 4))
    std = (means.var((0, 2, 3, 4)) + variances.mean((0, 2, 3, 4))).sqrt()
    vae = AutoencoderKLWan.from_pretrained(work / "vae")
    vae.register_to_config(latents_mean=mean.tolist(), latents_std=std.tolist())
    vae.save_pretrained(work / "vae_normalised")
    mean, std = latent_statistics(vae)
    latents = ((means - mean) / std).half()
    LatentSet([scene for part in parts for scene in part["scenes"]], latents).save(work / "latents.pt")
    for file in files:
        file.unlink()


@torch.no_grad()
def _encode(rank: int, work_dir: str, num_chunks: int) -> None:
    work, began = Path(work_dir), time.monotonic()
    vae = for_training(AutoencoderKLWan.from_pretrained(work / "vae")).eval()
    scenes: list[Scene] = []
    means, variances = [], []
    for chunk in range(num_chunks):
        rng = step_rng("latents", rank, chunk)
        drawn = [draw_training_scene(rng, star_share=STAR_SHARE, default_share=DEFAULT_SHARE) for _ in range(CHUNK)]
        clips = _jitter(render(drawn, [draw_path(scene, rng) for scene in drawn]), rng)
        with autocast():
            mean, log_variance = encode(vae, clips.contiguous(memory_format=torch.channels_last_3d))
        scenes += drawn
        means.append(mean)
        variances.append(log_variance.exp())
    state = {"scenes": scenes, "means": torch.cat(means), "variances": torch.cat(variances)}
    torch.save(state, work / f"latents-{rank}.pt")
    print(f"latents rank {rank}: {len(scenes)} clips in {time.monotonic() - began:.0f} s", flush=True)


def _jitter(clips: Tensor, rng: random.Random) -> Tensor:
    """Move the black end and the white end of every channel a little: a linear change keeps edges clean."""
    for clip in clips:
        for channel in clip:
            low, high = (rng.uniform(-COLOUR_JITTER, COLOUR_JITTER) / 127.5 for _ in range(2))
            channel.copy_(torch.lerp(channel + low, channel + high, (channel + 1) / 2).clamp(-1, 1))
    return clips
