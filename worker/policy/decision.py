"""What the policy wants done."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model.experts import ExpertName


@dataclass(frozen=True, slots=True)
class Group:
    """Jobs that make their next step in one forward."""

    job_ids: tuple[str, ...]
    latent_shape: tuple[int, ...]
    expert: "ExpertName"
    followed_by: "ExpertName"
    """Who will probably run the step after this one: what a hand-over or a prefetch can begin with."""


@dataclass(frozen=True, slots=True)
class Decision:
    """To be carried out in the order of its fields."""

    park: tuple[str, ...] = ()
    """To host memory."""

    unpark: tuple[str, ...] = ()
    """Back onto the device."""

    admit: tuple[str, ...] = ()
    """To be prepared, or resumed, on the device."""

    step: Group | None = None
    """None: nothing can run until a job comes, or a denoised one is decoded and removed."""
