"""What a checkpoint can serve on a GPU: where its parts lie, how many videos at once, in how many seconds. No torch."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from model.a14b import SHAPE
from model.card import CheckpointCard, Quality
from model.cost import DeviceRate
from model.describe import official_card, read_card
from model.folder import open_folder
from model.memory import MemoryPlan, ResidencyName, largest_batch, needed_bytes, plan_memory
from model.params import GenerationParams
from model.schedule import make_schedule
from model.shapes import CheckpointShape
from model.weights import FLOAT32_BYTES

DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
HOST_LINK_BYTES_PER_SECOND = 25e9
"""Assumed: page-locked memory over PCIe 4 x16."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU, as its data sheet and the operator's experience describe it."""

    memory_bytes: float
    rate: DeviceRate


@dataclass(frozen=True, slots=True)
class SizePlan:
    """Videos of one number of pixels: landscape and portrait cost the same."""

    sizes: tuple[tuple[int, int], ...]
    num_frames: int
    needed_bytes: int
    """For one at a time, weights included; where that is more than the GPU has, with the leanest placement."""

    largest_batch: int
    seconds: Mapping[str, float]
    """Of one video alone, by quality tier."""

    step_seconds: float
    """One step with guidance."""


@dataclass(frozen=True, slots=True)
class ServingPlan:
    """The whole answer."""

    model: str
    dtype: str
    gpu: Gpu
    memory: MemoryPlan
    quality: Mapping[str, Quality]
    sizes: tuple[SizePlan, ...]
    """Smallest first."""

    @property
    def switch_seconds(self) -> float:
        """One expert's way from host memory to the GPU."""
        return self.memory.expert_bytes / HOST_LINK_BYTES_PER_SECOND

    @property
    def fits(self) -> bool:
        """Whether any size can be made."""
        return any(size.largest_batch for size in self.sizes)


def read_checkpoint(folder: str | None) -> tuple[CheckpointShape, CheckpointCard]:
    """Without a folder those of Wan2.2-T2V-A14B, from no file. Raises CheckpointError."""
    if folder is None:
        return SHAPE, official_card(SHAPE, name="", digest="")
    opened = open_folder(folder)
    return opened.shape, read_card(opened)


def plan_serving(
    shape: CheckpointShape, card: CheckpointCard, gpu: Gpu, *, dtype: str, residency: ResidencyName | None = None
) -> ServingPlan:
    """dtype: a key of DTYPE_BYTES; residency: where the operator has settled it."""
    clips = {sizes: _default_clip(card, sizes[0]) for sizes in _by_pixels(card.native_sizes)}
    place = partial(plan_memory, shape, dtype_bytes=DTYPE_BYTES[dtype], residency=residency)
    memory = place(clips=list(clips.values()), device_bytes=gpu.memory_bytes)
    leanest = place(clips=(), device_bytes=0)
    return ServingPlan(
        model=card.id,
        dtype=dtype,
        gpu=gpu,
        memory=memory,
        quality=card.quality,
        sizes=tuple(
            SizePlan(
                sizes=sizes,
                num_frames=clip.num_frames,
                needed_bytes=needed_bytes(memory if largest_batch(memory, shape, clip) else leanest, shape, clip),
                largest_batch=largest_batch(memory, shape, clip),
                seconds={
                    tier: _seconds(shape, card, _with_quality(clip, quality), memory=memory, rate=gpu.rate)
                    for tier, quality in card.quality.items()
                },
                step_seconds=gpu.rate.seconds(card.cost.step_flop(clip, clip.guidance_scale)),
            )
            for sizes, clip in clips.items()
        ),
    )


def _by_pixels(sizes: Iterable[tuple[int, int]]) -> list[tuple[tuple[int, int], ...]]:
    groups: dict[int, list[tuple[int, int]]] = {}
    for width, height in sizes:
        groups.setdefault(width * height, []).append((width, height))
    return [tuple(groups[pixels]) for pixels in sorted(groups)]


def _default_clip(card: CheckpointCard, size: tuple[int, int]) -> GenerationParams:
    return dataclasses.replace(card.default_params(""), width=size[0], height=size[1])


def _with_quality(clip: GenerationParams, quality: Quality) -> GenerationParams:
    return dataclasses.replace(
        clip,
        num_inference_steps=quality.num_inference_steps,
        guidance_scale=quality.guidance_scale,
        guidance_scale_2=quality.guidance_scale_2,
    )


def _seconds(
    shape: CheckpointShape,
    card: CheckpointCard,
    clip: GenerationParams,
    *,
    memory: MemoryPlan,
    rate: DeviceRate,
) -> float:
    """One video alone, with its prompts encoded, without the time between forwards."""
    schedule = make_schedule(
        clip.num_inference_steps,
        clip.flow_shift,
        grid=card.sigma_grid,
        boundary_timestep=shape.boundary_timestep,
        num_train_timesteps=shape.num_train_timesteps,
    )
    flop = card.cost.request_flop(clip, num_high_noise_steps=schedule.num_high_noise_steps)
    # The VAE runs in float32, whose convolutions a GPU does as TF32 at half the rate of 16 bits.
    flop += card.cost.decode_flop(clip) * (FLOAT32_BYTES / memory.dtype_bytes - 1)
    # From high to low noise, and back for the next video.
    switches = 2 if memory.residency == "swap" else 0
    return rate.seconds(flop) + switches * memory.expert_bytes / HOST_LINK_BYTES_PER_SECOND
