"""What a checkpoint needs of a device's memory, and so where its parts lie. Pure numbers: no torch, no device.

Bytes; a GB is 10**9 of them, somewhat less than what a card sold by that number has.
"""

import itertools
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from model.cost import cost_coefficients, most_rows, resident_state_bytes
from model.errors import InvalidParams
from model.params import GenerationParams
from model.shapes import CheckpointShape, VaeShape
from model.weights import FLOAT32_BYTES, expert_bytes, text_encoder_bytes, vae_bytes

ResidencyName = Literal["both", "swap", "rolling"]
RESIDENCIES: tuple[ResidencyName, ...] = ("both", "swap", "rolling")
"""See residency.py."""

RESERVED_BYTES = 2 * 10**9
"""Assumed, not computed: CUDA's context, the scratch memory of its libraries, what the allocator can't use."""

DECODER_WORKING_FRAMES = 13
"""Full-size frames of the last level's channels that live while one frame passes a residual block there.

Counted, as the forward's bytes below, by bench/live_memory.py over every operator at A14B's shape; see
tests/model/test_memory.py.
"""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Where a checkpoint's parts lie, and what that leaves."""

    residency: ResidencyName
    text_encoder_on_device: bool
    dtype_bytes: int
    """Of one number of the experts and the text encoder."""

    device_bytes: float
    expert_bytes: int
    text_encoder_bytes: int
    vae_bytes: int

    @property
    def weight_bytes(self) -> int:
        """On the device."""
        experts = 2 if self.residency == "both" else 1
        text = self.text_encoder_bytes if self.text_encoder_on_device else 0
        return experts * self.expert_bytes + text + self.vae_bytes

    @property
    def host_bytes(self) -> int:
        """Weights that stay in host memory; the experts' page-locked."""
        experts = 0 if self.residency == "both" else 2
        text = 0 if self.text_encoder_on_device else self.text_encoder_bytes
        return experts * self.expert_bytes + text

    @property
    def room_bytes(self) -> float:
        """For requests; negative where not even the weights fit."""
        return self.device_bytes - RESERVED_BYTES - self.weight_bytes


def plan_memory(
    shape: CheckpointShape,
    *,
    clips: Sequence[GenerationParams],
    dtype_bytes: int,
    device_bytes: float,
    residency: ResidencyName | None = None,
) -> MemoryPlan:
    """The best of the ways to place the weights under which most of the clips fit, each by itself.

    Better is: no switch of experts to wait for, then prompts encoded on the device. residency: where it is settled.
    """
    ways: tuple[ResidencyName, ...] = ("both", "rolling") if residency is None else (residency,)
    plans = [
        MemoryPlan(
            residency=way,
            text_encoder_on_device=on_device,
            dtype_bytes=dtype_bytes,
            device_bytes=device_bytes,
            expert_bytes=expert_bytes(shape, dtype_bytes=dtype_bytes),
            # The text encoder overflows in float16 and then runs in bfloat16: as many bytes.
            text_encoder_bytes=text_encoder_bytes(shape, dtype_bytes=dtype_bytes),
            vae_bytes=vae_bytes(shape),
        )
        for way, on_device in itertools.product(ways, (True, False))
    ]
    # Where the weights fit in no way, the way that needs least says how much is lacking.
    fitting = [plan for plan in plans if plan.room_bytes >= 0] or plans[-1:]
    return max(fitting, key=lambda plan: sum(largest_batch(plan, shape, clip) > 0 for clip in clips))


def largest_batch(plan: MemoryPlan, shape: CheckpointShape, params: GenerationParams) -> int:
    """How many such requests can be in one forward; 0 where one is too large, sys.maxsize without any limit."""
    if math.isinf(plan.room_bytes):
        return sys.maxsize
    state, forward, decode = _request_bytes(plan, shape, params)
    return max(0, int(min(plan.room_bytes // (state + forward), (plan.room_bytes - decode) // state)))


def needed_bytes(plan: MemoryPlan, shape: CheckpointShape, params: GenerationParams) -> int:
    """Of the device, for one such request under this plan."""
    state, forward, decode = _request_bytes(plan, shape, params)
    return RESERVED_BYTES + plan.weight_bytes + state + max(forward, decode)


def check_fits(plan: MemoryPlan, shape: CheckpointShape, params: GenerationParams) -> None:
    """Raises InvalidParams for a request that the device can't hold even alone; says what it could."""
    needed = needed_bytes(plan, shape, params)
    if needed <= plan.device_bytes:
        return
    frames = _most_frames(plan, shape, params)
    remedy = f"at most {frames} frames at this size, or a smaller size" if frames else "a smaller size"
    raise InvalidParams(
        f"{params.num_frames} frames of {params.width}x{params.height} need {gigabytes(needed)} of memory, weights "
        f"included, and the device has {gigabytes(plan.device_bytes)}: give {remedy}."
    )


def _most_frames(plan: MemoryPlan, shape: CheckpointShape, params: GenerationParams) -> int:
    """Fewer than asked for; 0 where not even one frame fits."""
    for num_frames in range(params.num_frames - shape.frame_stride, 0, -shape.frame_stride):
        if needed_bytes(plan, shape, replace(params, num_frames=num_frames)) <= plan.device_bytes:
            return num_frames
    return 0


def _request_bytes(plan: MemoryPlan, shape: CheckpointShape, params: GenerationParams) -> tuple[int, int, int]:
    """State between steps, beside it a forward, or else the decoding."""
    state = resident_state_bytes(shape, params, dtype_bytes=plan.dtype_bytes)
    return state, forward_bytes(shape, params, dtype_bytes=plan.dtype_bytes), decode_bytes(shape, params)


def forward_bytes(shape: CheckpointShape, params: GenerationParams, *, dtype_bytes: int) -> int:
    """Activations of a step at their peak, all its rows; attention that keeps no score matrix is assumed."""
    tokens = most_rows(params) * cost_coefficients(shape).num_tokens(params)
    dim, ffn = shape.transformer.dim, shape.transformer.ffn_dim
    # A block ends with hidden + ff_output * gate in float32: product and sum, and a copy of either factor where
    # those are narrower; beside them three tensors of the block itself.
    residual_sum = 3 * dim * dtype_bytes + (2 if dtype_bytes == FLOAT32_BYTES else 4) * dim * FLOAT32_BYTES
    # Before and after the activation, beside four tensors.
    feed_forward = (4 * dim + 2 * ffn) * dtype_bytes
    return tokens * max(residual_sum, feed_forward)


def decode_bytes(shape: CheckpointShape, params: GenerationParams) -> int:
    """A streamed decode at its peak, whatever the number of frames: its memory of earlier frames, and a chunk."""
    vae, pixels = shape.vae, params.width * params.height
    # The chunk before, and this one but for its last frame.
    finished = (2 * vae.temporal_stride - 1) * vae.out_channels
    chunk = DECODER_WORKING_FRAMES * vae.base_dim * vae.dim_mult[0] + finished
    sites = pixels // vae.spatial_stride**2
    return FLOAT32_BYTES * (chunk * pixels + _decoder_memory(vae) * sites)


def _decoder_memory(shape: VaeShape) -> int:
    """Numbers a latent site: every causal convolution keeps the last two frames that it saw."""
    channels = [shape.base_dim * m for m in (shape.dim_mult[-1], *reversed(shape.dim_mult))]
    kept, area = shape.z_dim + 4 * channels[0], 1
    for level, (width, out) in enumerate(itertools.pairwise(channels)):
        entry = width if level == 0 else width // 2
        is_last = level == len(channels) - 2
        in_time = 0 if is_last or not shape.temporal_upsample[level] else out
        kept += area * (entry + out + 2 * shape.num_res_blocks * out + in_time)
        area *= 1 if is_last else 4
    return 2 * (kept + area * channels[-1])


def gigabytes(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.1f} GB"
