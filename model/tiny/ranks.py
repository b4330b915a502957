"""Data-parallel training on CPU cores: one single-thread process a core, gradients averaged over gloo."""

import multiprocessing
import os
import random
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import start_processes

NUM_RANKS = 2
# Imported once by the server that ranks fork from: it takes longer than a stage's start.
multiprocessing.set_forkserver_preload(
    ["diffusers.models.transformers", "diffusers.models.autoencoders", "transformers"]
)


def run_ranks(train: Callable[..., None], *args: object) -> None:
    """Run train(rank, *args) in NUM_RANKS processes joined by gloo on a free loopback port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    start_processes(_enter, args=(train, port, args), nprocs=NUM_RANKS, start_method="forkserver")


def _enter(rank: int, train: Callable[..., None], port: int, args: tuple[object, ...]) -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), GLOO_SOCKET_IFNAME="lo")
    dist.init_process_group("gloo", rank=rank, world_size=NUM_RANKS)
    try:
        train(rank, *args)
    finally:
        dist.destroy_process_group()


def step_rng(stage: str, rank: int, step: int) -> random.Random:
    """The randomness of one step: a resumed run draws what an unbroken one would have drawn."""
    rng = random.Random(f"{stage}/{rank}/{step}")
    torch.manual_seed(rng.getrandbits(60))
    return rng


def average_gradients(parameters: list[torch.nn.Parameter], *, max_norm: float) -> float:
    """Average .grad over the ranks and clip it. Returns the norm before clipping."""
    flat = torch.cat([gradient_of(p).reshape(-1) for p in parameters])
    dist.all_reduce(flat)
    norm = float(flat.norm()) / NUM_RANKS
    flat.mul_(min(1.0, max_norm / (norm + 1e-6)) / NUM_RANKS)
    offset = 0
    for p in parameters:
        p.grad = flat[offset : offset + p.numel()].view_as(p)
        offset += p.numel()
    return norm


def gradient_of(parameter: torch.nn.Parameter) -> Tensor:
    """Zeros for a parameter that took no part."""
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


class MovingAverage:
    """Exponential moving average of parameters; short at first so that it forgets the initialisation."""

    def __init__(self, parameters: Iterable[torch.nn.Parameter], *, decay: float) -> None:
        self._parameters: list[Tensor] = list(parameters)
        self.values = [p.detach().clone() for p in self._parameters]
        self._decay = decay

    @torch.no_grad()
    def update(self, step: int) -> None:
        decay = min(self._decay, (step + 1) / (step + 20))
        torch._foreach_lerp_(self.values, self._parameters, 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange averages and parameters; call it twice to get back."""
        for p, average in zip(self._parameters, self.values, strict=True):
            held = p.detach().clone()
            p.copy_(average)
            average.copy_(held)


class Progress:
    """The resume file of one network in training: written whole, renamed into place."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> dict[str, Any] | None:
        if not self._path.exists():
            return None
        return torch.load(self._path, weights_only=False)

    def save(self, **state: object) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_suffix(".new")
        torch.save(state, draft)
        draft.replace(self._path)

    def clear(self) -> None:
        self._path.unlink(missing_ok=True)
