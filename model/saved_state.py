"""A request's state as one safetensors file: what must be kept to go on elsewhere as if nothing had happened.

Text, schedule and rotary table are not in it: they follow from the parameters and the checkpoint.
"""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from model.errors import InvalidState
from model.params import GenerationParams
from model.request import Request
from model.unipc import SolverState

SCHEMA_VERSION = 1
_ADVICE = "Start the job again from its first step."
_TENSORS = ("latents", "sample", "clean", "earlier_clean")


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose numbers these are: only an engine of the same kind can go on with them bit by bit."""

    fingerprint: str
    dtype: str


@dataclass(frozen=True, slots=True)
class SavedState:
    """A request under way, without what can be computed anew."""

    params: GenerationParams
    step: int
    latents: torch.Tensor
    solver: SolverState
    denoise_seconds: float


def to_bytes(request: Request, origin: Origin) -> bytes:
    """Four latent-sized float32 tensors and a few hundred bytes of header."""
    about = {
        "schema_version": SCHEMA_VERSION,
        "origin": dataclasses.asdict(origin),
        "params": dataclasses.asdict(request.params),
        "step": request.step,
        "denoise_seconds": request.denoise_seconds,
    }
    solver = request.solver
    tensors = dict(zip(_TENSORS, (request.latents, solver.sample, solver.clean, solver.earlier_clean), strict=True))
    # A tensor may be a view of a whole batch's, or the very same as another one.
    return save({name: tensor.cpu().clone() for name, tensor in tensors.items()}, {"wanserve": json.dumps(about)})


def from_bytes(data: bytes, origin: Origin) -> SavedState:
    """Raises InvalidState for a broken file, and for one of another version, checkpoint or dtype."""
    about = _about(data)
    if about.get("schema_version") != SCHEMA_VERSION:
        raise InvalidState(
            f"The saved state has schema version {about.get('schema_version')}; this program reads "
            f"{SCHEMA_VERSION}. {_ADVICE}"
        )
    for name, ours in dataclasses.asdict(origin).items():
        if (theirs := about["origin"].get(name)) != ours:
            raise InvalidState(f"The saved state is of {name} {theirs}, the loaded checkpoint of {ours}. {_ADVICE}")
    try:
        tensors = load(data)
        latents, sample, clean, earlier_clean = (tensors[name] for name in _TENSORS)
        kinds = {(tensor.shape, tensor.dtype) for tensor in (latents, sample, clean, earlier_clean)}
        if kinds != {(latents.shape, torch.float32)}:
            raise ValueError(f"its tensors are of several kinds: {kinds}")
        return SavedState(
            params=GenerationParams(**about["params"]),
            step=int(about["step"]),
            latents=latents,
            solver=SolverState(sample=sample, clean=clean, earlier_clean=earlier_clean),
            denoise_seconds=float(about["denoise_seconds"]),
        )
    except (SafetensorError, KeyError, TypeError, ValueError, OverflowError) as e:
        raise _broken(e) from e


def _about(data: bytes) -> dict[str, Any]:
    """The header's metadata. The library reads it from files only."""
    try:
        length = int.from_bytes(data[:8], "little")
        about = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["wanserve"])
    except (ValueError, KeyError, TypeError) as e:
        raise _broken(e) from e
    if not isinstance(about, dict) or not isinstance(about.get("origin"), dict):
        raise _broken("its header is of another kind")
    return about


def _broken(cause: object) -> InvalidState:
    return InvalidState(f"The saved state can't be read: {cause!r}. {_ADVICE}")
