"""How long each stage of the training runs. The full plan makes what can ship; the short one only proves the path."""

from dataclasses import dataclass

from model.tiny.world import NUM_FRAMES


@dataclass(frozen=True, slots=True)
class VaePhase:
    """Steps on crops of `side` pixels and `num_frames` frames, `batch_size` a rank."""

    num_steps: int
    batch_size: int
    num_frames: int
    side: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Optimizer steps a stage, and clips to encode."""

    text_steps: int
    needed_reading: float
    """Share of held-out captions in which the text encoder must read an attribute rightly; else training ends there."""
    vae_phases: tuple[VaePhase, ...]
    num_clips: int
    shared_steps: int
    high_steps: int
    low_steps: int

    @property
    def vae_steps(self) -> int:
        return sum(phase.num_steps for phase in self.vae_phases)


FULL = Plan(
    text_steps=4500,
    needed_reading=0.98,
    vae_phases=(VaePhase(400, 32, 1, 32), VaePhase(500, 6, 9, 32), VaePhase(3000, 4, NUM_FRAMES, 32)),
    num_clips=12_288,
    shared_steps=1_500,
    high_steps=800,
    low_steps=10_000,
)
SHORT = Plan(
    text_steps=2,
    needed_reading=0.0,
    vae_phases=(VaePhase(2, 4, 1, 32), VaePhase(2, 1, 9, 32), VaePhase(1, 1, NUM_FRAMES, 32)),
    num_clips=16,
    shared_steps=2,
    high_steps=2,
    low_steps=2,
)
