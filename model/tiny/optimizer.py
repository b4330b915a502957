"""Muon (Keller Jordan, 2024) for the hidden matrices, AdamW for everything else, one schedule factor for both."""

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from model.tiny.precision import PRODUCT_DTYPE
from model.tiny.ranks import gradient_of

MOMENTUM, WEIGHT_DECAY = 0.95, 0.01
AT_A_TIME = 8
"""Matrices that a core's cache holds through all iterations."""
# Coefficients of the quintic Newton-Schulz iteration that Muon was published with.
_A, _B, _C = 3.4445, -4.7750, 2.0315


class MuonWithAdamW:
    """Steps both. state_dict / load_state_dict carry the whole of it.

    Ranks joined by torch.distributed hold the same network and gradients: each does its part of Muon's matrices.
    """

    def __init__(
        self, module: nn.Module, *, muon_rate: float, adam_rate: float, is_hidden: Callable[[str], bool]
    ) -> None:
        """is_hidden: by a layer's name, whether Muon steps its weight; a convolution's is one row an output channel."""
        self._muon_rate, self._adam_rate = muon_rate, adam_rate
        layers = {n: m for n, m in module.named_modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.Conv3d)}
        hidden: list[nn.Parameter] = []
        decayed: list[nn.Parameter] = []
        plain: list[nn.Parameter] = []
        for name, p in module.named_parameters():
            layer, _, kind = name.rpartition(".")
            if layer not in layers or kind != "weight":
                plain.append(p)
            else:
                (hidden if is_hidden(layer) else decayed).append(p)
        self._adam = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": plain, "weight_decay": 0.0}],
            lr=adam_rate,
            betas=(0.9, 0.99),
            fused=True,
        )
        # Matrices of one shape are stacked: one batched product instead of many small ones.
        self._groups: dict[tuple[int, ...], list[nn.Parameter]] = {}
        for p in hidden:
            self._groups.setdefault((len(p), p[0].numel()), []).append(p)
        self._momentum = {shape: torch.zeros(len(g), *shape) for shape, g in self._groups.items()}

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """One update at `factor` times the full learning rates."""
        for group in self._adam.param_groups:
            group["lr"] = self._adam_rate * factor
        self._adam.step()
        for shape, parameters in self._groups.items():
            gradient = torch.stack([gradient_of(p).flatten(1) for p in parameters])
            momentum = self._momentum[shape]
            momentum.lerp_(gradient, 1 - MOMENTUM)
            update = _orthogonalise_together(gradient.lerp(momentum, MOMENTUM))
            rate = self._muon_rate * factor
            scale = max(1.0, shape[0] / shape[1]) ** 0.5
            for p, direction in zip(parameters, update, strict=True):
                p.mul_(1 - rate * WEIGHT_DECAY).add_(direction.reshape(p.shape), alpha=-rate * scale)

    def state_dict(self) -> dict[str, object]:
        return {"adam": self._adam.state_dict(), "momentum": self._momentum}

    def load_state_dict(self, state: dict[str, object]) -> None:
        self._adam.load_state_dict(state["adam"])  # type: ignore[arg-type]
        self._momentum = state["momentum"]  # type: ignore[assignment]


def _orthogonalise_together(matrices: Tensor) -> Tensor:
    """The same on every rank, for the time of a part of them."""
    num_ranks = dist.get_world_size() if dist.is_initialized() else 1
    if num_ranks == 1:
        return _orthogonalise(matrices)
    # Zeros stay zeros: they make the parts equally long.
    padded = F.pad(matrices, (0, 0, 0, 0, 0, -len(matrices) % num_ranks))
    own = _orthogonalise(padded.chunk(num_ranks)[dist.get_rank()]).contiguous()
    parts = [torch.empty_like(own) for _ in range(num_ranks)]
    dist.all_gather(parts, own)
    return torch.cat(parts)[: len(matrices)]


def _orthogonalise(matrices: Tensor) -> Tensor:
    """Replace the singular values of each matrix by about one  # n rows columns"""
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if is_tall else matrices
    x = (x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-8)).to(PRODUCT_DTYPE)
    x = torch.cat([_iterate(part) for part in x.split(AT_A_TIME)]).float()
    return x.transpose(1, 2) if is_tall else x


def _iterate(x: Tensor) -> Tensor:
    """x <- a x + (b x x' + c (x x')²) x, five times."""
    for _ in range(5):
        gram = x @ x.transpose(1, 2)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return x
