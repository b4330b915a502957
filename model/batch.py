"""Requests that share a forward: gathered into one stack, and the outcome scattered back to them."""

from collections.abc import Sequence

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


def advance(batch: Sequence[Request], stack: Stack, velocity: torch.Tensor) -> list[Request]:
    """Takes every request one step on, from its rows' velocity (b c f h w). Returns those left where they were.

    These are the ones whose latents would no longer be finite.
    """
    guided = guide(velocity, stack.num_rows, [request.guidance_scale for request in batch])
    state = SolverState(
        sample=_stack([request.solver.sample for request in batch]),
        clean=_stack([request.solver.clean for request in batch]),
        earlier_clean=_stack([request.solver.earlier_clean for request in batch]),
    )
    weights = torch.stack([request.weights[request.step] for request in batch])
    latents, state = solver_step(state, guided, latents=stack.latents, weights=weights)
    is_finite = latents.isfinite().flatten(1).all(1).tolist()
    failed = []
    for request, finite, *tensors in zip(
        batch, is_finite, _split(latents), _split(state.sample), _split(state.clean), _split(state.earlier_clean),
        strict=True,
    ):  # fmt: skip
        if finite:
            request.latents = tensors[0]
            request.solver = SolverState(*tensors[1:])
            request.step += 1
        else:
            failed.append(request)
    return failed


def _stack(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))


def _split(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return tensor.split(1)
