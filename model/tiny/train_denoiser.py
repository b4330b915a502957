"""Train the denoiser with flow matching: one network for all noise levels, then a fork into the two experts in turn."""

import random
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import WanTransformer3DModel
from torch import Tensor
from transformers import T5TokenizerFast, UMT5EncoderModel

from model.text import KEYS_AT_A_TIME
from model.tiny.captions import NEGATIVE_PROMPTS, describe_shown
from model.tiny.denoiser import for_training, new_denoiser, pad_bias, set_pad_bias
from model.tiny.latents import LatentSet
from model.tiny.optimizer import MuonWithAdamW
from model.tiny.plan import Plan
from model.tiny.ranks import MovingAverage, Progress, average_gradients, run_ranks, step_rng
from model.tiny.train_text import embed

SHIFT, BOUNDARY = 3.0, 0.875
BATCH_SIZE = 16
EXPERT_SIGMAS = {"high": (BOUNDARY, 1.0), "low": (0.0, BOUNDARY)}
MUON_RATE, ADAM_RATE = 0.02, 2e-3
CONSTANT_SHARE, LAST_FACTOR = 0.5, 0.01
"""An expert's learning rates stay for this share of its steps, then fall to the factor: only then outlines settle."""
UNGUIDED = 0.12
"""Share of clips trained without their caption, for classifier-free guidance."""
BANDS = (0.0, 0.3, 0.6, 0.8, 0.875, 0.94, 0.98, 1.001)
SAVE_EVERY, PRINT_EVERY = 500, 200


def train_shared(work: Path, plan: Plan) -> None:
    """Write work/denoiser: one network for all noise levels. Needs latents, tokenizer and text encoder."""
    run_ranks(_train_shared, str(work), plan.shared_steps)


def train_high_expert(work: Path, plan: Plan) -> None:
    """Fork work/denoiser into work/high, which settles what moves where: that takes few steps."""
    run_ranks(_train_expert, str(work), "high", plan.high_steps)


def train_low_expert(work: Path, plan: Plan) -> None:
    """Fork work/denoiser into work/low, which draws the outlines: that takes most steps of all."""
    run_ranks(_train_expert, str(work), "low", plan.low_steps)


def sample_sigmas(count: int, low: float, high: float) -> Tensor:
    """Noise levels in [low, high), spread as a sampler with SHIFT spreads its steps  # count"""
    start, end = (s / (SHIFT - (SHIFT - 1) * s) for s in (low, high))
    u = start + torch.rand(count) * (end - start)
    return SHIFT * u / (1 + (SHIFT - 1) * u)


class _Reader:
    """Captions of a batch's scenes, embedded; the text encoder is frozen."""

    def __init__(self, work: Path) -> None:
        self._tokenizer = T5TokenizerFast.from_pretrained(work / "tokenizer")
        self._encoder = UMT5EncoderModel.from_pretrained(work / "text_encoder").eval()

    @torch.no_grad()
    def __call__(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Embeddings with at least one zero pad a row, and the pads' logit bias  # b n c, b 1 1 n"""
        embeds, mask = embed(self._encoder, self._tokenizer, texts)
        num_pads = KEYS_AT_A_TIME - mask.shape[1] % KEYS_AT_A_TIME
        mask = F.pad(mask, (0, num_pads))
        return F.pad(embeds, (0, 0, 0, num_pads)) * mask[..., None], pad_bias(mask)


def _train_shared(rank: int, work_dir: str, num_steps: int) -> None:
    torch.manual_seed(0)
    _fit(rank, Path(work_dir), "denoiser", new_denoiser(), (0.0, 1.0), num_steps, lambda step: min(1, (step + 1) / 60))


def _train_expert(rank: int, work_dir: str, name: str, num_steps: int) -> None:
    work = Path(work_dir)
    transformer = for_training(WanTransformer3DModel.from_pretrained(work / "denoiser"))

    def rate(step: int) -> float:
        falling = max(0.0, (step / num_steps - CONSTANT_SHARE) / (1 - CONSTANT_SHARE))
        return min(1, (step + 1) / 20) * (1 - (1 - LAST_FACTOR) * falling)

    _fit(rank, work, name, transformer, EXPERT_SIGMAS[name], num_steps, rate)


def new_optimizer(transformer: WanTransformer3DModel) -> MuonWithAdamW:
    return MuonWithAdamW(
        transformer, muon_rate=MUON_RATE, adam_rate=ADAM_RATE, is_hidden=lambda layer: layer.startswith("blocks.")
    )


def _fit(
    rank: int,
    work: Path,
    name: str,
    transformer: WanTransformer3DModel,
    sigmas: tuple[float, float],
    num_steps: int,
    rate: Callable[[int], float],
) -> None:
    reader, clips = _Reader(work), LatentSet.load(work / "latents.pt")
    parameters = list(transformer.parameters())
    optimizer = new_optimizer(transformer)
    average = MovingAverage(parameters, decay=0.997)
    progress = Progress(work / "progress" / f"{name}.pt")
    start, log = _resume(progress, transformer, optimizer, average), _BandLog(name, num_steps)
    for step in range(start, num_steps):
        rng = step_rng(name, rank, step)
        losses, levels = _losses(transformer, reader, clips, rng, sigmas)
        for p in parameters:
            p.grad = None
        losses.mean().backward()
        average_gradients(parameters, max_norm=1.0)
        optimizer.step(rate(step))
        average.update(step)
        log.add(losses.detach(), levels)
        if rank == 0 and (step + 1) % PRINT_EVERY == 0:
            log.print(step + 1)
        if rank == 0 and (step + 1) % SAVE_EVERY == 0:
            progress.save(
                step=step + 1,
                weights=transformer.state_dict(),
                optimizer=optimizer.state_dict(),
                average=average.values,
            )
    if rank == 0:
        average.swap()
        transformer.save_pretrained(work / name)
        progress.clear()


def _losses(
    transformer: WanTransformer3DModel,
    reader: _Reader,
    clips: LatentSet,
    rng: random.Random,
    sigmas: tuple[float, float],
) -> tuple[Tensor, Tensor]:
    """Squared error of the velocity, one a clip, and the noise levels they were taken at  # b, b"""
    picks = [rng.randrange(len(clips.scenes)) for _ in range(BATCH_SIZE)]
    embeds, bias = reader([_text(clips, pick, rng) for pick in picks])
    clean = clips.latents[torch.tensor(picks)].float()
    noise, sigma = torch.randn_like(clean), sample_sigmas(BATCH_SIZE, *sigmas)
    mix = sigma.view(-1, 1, 1, 1, 1)
    set_pad_bias(transformer, bias)
    velocity = transformer(
        hidden_states=(1 - mix) * clean + mix * noise,
        timestep=sigma * 1000,
        encoder_hidden_states=embeds,
        return_dict=False,
    )[0]
    return ((velocity - (noise - clean)) ** 2).mean((1, 2, 3, 4)), sigma


def _text(clips: LatentSet, pick: int, rng: random.Random) -> str:
    if rng.random() < UNGUIDED:
        return "" if rng.random() < 0.7 else rng.choice(NEGATIVE_PROMPTS)
    return describe_shown(clips.scenes[pick], rng).text


def _resume(
    progress: Progress, transformer: WanTransformer3DModel, optimizer: MuonWithAdamW, average: MovingAverage
) -> int:
    if (state := progress.load()) is None:
        return 0
    transformer.load_state_dict(state["weights"])
    optimizer.load_state_dict(state["optimizer"])
    for value, saved in zip(average.values, state["average"], strict=True):
        value.copy_(saved)
    return int(state["step"])


class _BandLog:
    """Prints the mean loss and its split over noise levels: that, not samples, tells how training goes."""

    def __init__(self, name: str, num_steps: int) -> None:
        self._name, self._num_steps = name, num_steps
        self._began, self._count = time.monotonic(), 0
        self._losses: list[Tensor] = []
        self._sigmas: list[Tensor] = []

    def add(self, losses: Tensor, sigmas: Tensor) -> None:
        self._count += 1
        self._losses.append(losses)
        self._sigmas.append(sigmas)

    def print(self, step: int) -> None:
        losses, sigmas = torch.cat(self._losses), torch.cat(self._sigmas)
        bands = [(low, losses[(sigmas >= low) & (sigmas < high)]) for low, high in pairwise(BANDS)]
        split = " ".join(f"{low:g}:{float(band.mean()):.3f}" for low, band in bands if len(band))
        seconds = (time.monotonic() - self._began) / self._count
        print(
            f"{self._name} step {step}/{self._num_steps} loss {float(losses.mean()):.4f} | {split}"
            f" | {seconds:.3f} s/step",
            flush=True,
        )
        self._losses, self._sigmas = [], []
