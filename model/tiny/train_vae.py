"""Train the causal VAE on windows around shapes: images, short clips, then all frames, with noise on the latents."""

import math
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan
from torch import Tensor

from model.tiny.autoencoder import decode, encode, new_autoencoder
from model.tiny.optimizer import MuonWithAdamW
from model.tiny.plan import Plan, VaePhase
from model.tiny.precision import autocast
from model.tiny.ranks import MovingAverage, Progress, average_gradients, run_ranks, step_rng
from model.tiny.render import Window, render
from model.tiny.world import CELL_FRAMES, CELL_PIXELS, NUM_FRAMES, SIDE_PIXELS, draw_path, draw_training_scene
from model.tiny.world import Path as ShapePath

MUON_RATE, ADAM_RATE = 0.015, 1e-3
KL_WEIGHT = 2e-3
LATENT_NOISE = 0.3
"""Up to this much noise on latents in training: the decoder must forgive what a denoiser leaves."""
STAR_SHARE = 0.5
SAVE_EVERY, PRINT_EVERY = 250, 50


def train_autoencoder(work: Path, plan: Plan) -> None:
    """Train from nothing into work/vae, resuming where an earlier run stopped."""
    run_ranks(_train, str(work), plan)


def _train(rank: int, work_dir: str, plan: Plan) -> None:
    work = Path(work_dir)
    torch.manual_seed(0)
    vae = new_autoencoder()
    parameters = list(vae.parameters())
    optimizer = new_optimizer(vae)
    average = MovingAverage(parameters, decay=0.997)
    progress = Progress(work / "progress" / "vae.pt")
    start = _resume(progress, vae, optimizer, average)
    began, squared = time.monotonic(), []
    for step in range(start, plan.vae_steps):
        clips = _crops(_phase(step, plan), step_rng("vae", rank, step))
        for p in parameters:
            p.grad = None
        loss, error = _losses(vae, clips)
        loss.backward()
        average_gradients(parameters, max_norm=1.0)
        optimizer.step(_rate(step, plan))
        average.update(step)
        squared.append(float(error.detach()))
        if rank == 0 and (step + 1) % PRINT_EVERY == 0:
            decibel = 10 * math.log10(4 / (sum(squared) / len(squared)))
            seconds = (time.monotonic() - began) / (step + 1 - start)
            print(f"vae step {step + 1}/{plan.vae_steps} psnr {decibel:.2f} dB {seconds:.3f} s/step", flush=True)
            squared = []
        if rank == 0 and (step + 1) % SAVE_EVERY == 0:
            progress.save(
                step=step + 1,
                weights=vae.state_dict(),
                optimizer=optimizer.state_dict(),
                average=average.values,
            )
    if rank == 0:
        average.swap()
        vae.save_pretrained(work / "vae")
        progress.clear()


def new_optimizer(vae: AutoencoderKLWan) -> MuonWithAdamW:
    """Muon for all convolutions but the last, whose rows are colours."""
    return MuonWithAdamW(
        vae, muon_rate=MUON_RATE, adam_rate=ADAM_RATE, is_hidden=lambda layer: layer != "decoder.conv_out"
    )


def _losses(vae: AutoencoderKLWan, clips: Tensor) -> tuple[Tensor, Tensor]:
    """What is minimised, and the mean squared error."""
    with autocast():
        mean, log_variance = encode(vae, clips)
        noise = torch.rand(len(mean), 1, 1, 1, 1) * LATENT_NOISE * (torch.rand(len(mean), 1, 1, 1, 1) < 0.6)
        latents = mean + (log_variance.exp() + noise**2).sqrt() * torch.randn_like(mean)
        error = decode(vae, latents) - clips
    divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
    return _reconstruction_loss(error, _edges(clips)) + KL_WEIGHT * divergence, (error**2).mean()


def _rate(step: int, plan: Plan) -> float:
    """Each phase warms up and decays on its own: a longer clip is nearly a new problem."""
    start = 0
    for phase in plan.vae_phases:
        if step < start + phase.num_steps:
            break
        start += phase.num_steps
    return min(1, (step - start + 1) / 60) * _cosine((step - start) / phase.num_steps)


def _resume(progress: Progress, vae: AutoencoderKLWan, optimizer: MuonWithAdamW, average: MovingAverage) -> int:
    if (state := progress.load()) is None:
        return 0
    vae.load_state_dict(state["weights"])
    optimizer.load_state_dict(state["optimizer"])
    for value, saved in zip(average.values, state["average"], strict=True):
        value.copy_(saved)
    return int(state["step"])


def _phase(step: int, plan: Plan) -> VaePhase:
    for phase in plan.vae_phases:
        if step < phase.num_steps:
            return phase
        step -= phase.num_steps
    return plan.vae_phases[-1]


def _crops(phase: VaePhase, rng: random.Random) -> Tensor:
    """Training clips of the phase's size, most of them with part of the shape in view  # b 3 f h w"""
    scenes = [draw_training_scene(rng, star_share=STAR_SHARE) for _ in range(phase.batch_size)]
    paths = [draw_path(scene, rng) for scene in scenes]
    clips = render(scenes, paths, [_window(phase, path, rng) for path in paths])
    return clips.contiguous(memory_format=torch.channels_last_3d)


def _window(phase: VaePhase, path: ShapePath, rng: random.Random) -> Window:
    """Starts at whole latent cells, and at a frame in which shapes are at whole ones: the world has no other looks."""
    for _ in range(20):
        frame = CELL_FRAMES * rng.randint(0, (NUM_FRAMES - phase.num_frames) // CELL_FRAMES)
        row, column = (CELL_PIXELS * rng.randint(0, (SIDE_PIXELS - phase.side) // CELL_PIXELS) for _ in range(2))
        window = Window(phase.num_frames, phase.side, frame, row, column)
        if window.shows(path) or rng.random() < 0.1:
            break
    return window


def _edges(clips: Tensor) -> Tensor:
    """1 within three pixels of a strong edge, else 0  # b 1 f h w"""
    across = F.pad((clips[..., 1:] - clips[..., :-1]).abs().amax(1), (0, 1))
    down = F.pad((clips[..., 1:, :] - clips[..., :-1, :]).abs().amax(1), (0, 0, 0, 1))
    return (F.max_pool2d(across + down, 7, 1, 3) > 0.15).float()[:, None]


def _reconstruction_loss(error: Tensor, edges: Tensor) -> Tensor:
    """L1 + L2, heavier near edges, and L1 of the spatial and temporal gradients of the error."""
    spatial = (error[..., 1:] - error[..., :-1]).abs().mean()
    spatial = spatial + (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
    temporal = (error[:, :, 1:] - error[:, :, :-1]).abs().mean() if error.shape[2] > 1 else 0.0
    return ((1 + 2 * edges) * (error.abs() + error**2)).mean() + 0.5 * spatial + 0.5 * temporal


def _cosine(progress: float) -> float:
    """1 at the start of a phase, 2 % of it at the end."""
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
