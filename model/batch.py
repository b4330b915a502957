"""Requests that share a forward: gathered into one stack, and the outcome scattered back to them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from model.denoise import Stack, guide
from model.request import Request
from model.text import TextKeysValues
from model.unipc import SolverState, solver_step


def batches_of(requests: Sequence[Request]) -> list[list[Request]]:
    """Splits requests by latent shape and expert, in the order in which each kind first comes."""
    batches: dict[tuple[object, ...], list[Request]] = {}
    for request in requests:
        batches.setdefault((request.latents.shape, request.expert), []).append(request)
    return list(batches.values())


def gather(batch: Sequence[Request], text: list[TextKeysValues]) -> Stack:
    """text: one entry a block, all rows of all requests."""
    return Stack(
        latents=_stack([request.latents for request in batch]),
        timesteps=tuple(request.timestep for request in batch),
        num_rows=tuple(len(request.rows) for request in batch),
        text=text,
        rotary=batch[0].rotary,
    )


@dataclass(frozen=True, slots=True)
class Advance:
    """What a step makes of a batch, before any request has taken it."""

    latents: torch.Tensor
    """n c f h w."""

    solver: SolverState


def solve(batch: Sequence[Request], stack: Stack, velocity: torch.Tensor) -> Advance:
    """One step of every request, from its rows' velocity (b c f h w). Changes none of them."""
    guided = guide(velocity, stack.num_rows, [request.guidance_scale for request in batch])
    state = SolverState(
        sample=_stack([request.solver.sample for request in batch]),
        clean=_stack([request.solver.clean for request in batch]),
        earlier_clean=_stack([request.solver.earlier_clean for request in batch]),
    )
    weights = torch.stack([request.weights[request.step] for request in batch])
    return Advance(*solver_step(state, guided, latents=stack.latents, weights=weights))


def commit(batch: Sequence[Request], advance: Advance) -> list[Request]:
    """Gives every request its part. Returns those left where they were: their latents would not be finite."""
    is_finite = advance.latents.isfinite().flatten(1).all(1).tolist()
    solver = advance.solver
    parts = map(_split, (advance.latents, solver.sample, solver.clean, solver.earlier_clean))
    failed = []
    for request, finite, *tensors in zip(batch, is_finite, *parts, strict=True):
        if not finite:
            failed.append(request)
            continue
        request.latents, request.solver = tensors[0], SolverState(*tensors[1:])
        request.step += 1
        if request.is_denoised:
            _leave(request)
    return failed


def _leave(request: Request) -> None:
    """Its tensors are parts of the whole batch's, which would live as long as it does: takes what it still needs."""
    request.latents = request.latents.clone()
    # The last step ends at the clean latents, and no step follows.
    request.solver = SolverState(request.latents, request.latents, request.latents)
    request.text = None


def _stack(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))


def _split(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return tensor.split(1)
