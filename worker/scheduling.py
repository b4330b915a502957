"""The policy and its estimates, for the engine that is loaded."""

import dataclasses
import math
import sys

from model.cost import DeviceRate, parked_state_bytes
from model.engine import Engine
from model.memory import decode_bytes, forward_bytes
from model.params import GenerationParams
from service.jobs.card import Measured
from service.settings import Settings
from worker.plan import HOST_LINK_BYTES_PER_SECOND
from worker.policy.estimate import Estimator
from worker.policy.limits import Limits
from worker.policy.policy import Policy


def make_policy(engine: Engine, settings: Settings) -> Policy:
    return Policy(limits_of(engine, settings))


def make_estimator(engine: Engine, measured: Measured) -> Estimator:
    """Prices every job by the speed that was measured at the card's default clip."""
    clip = engine.card.default_params("")
    flop = engine.card.cost.step_flop(clip, clip.guidance_scale)
    rate = DeviceRate(peak_flop_per_second=flop / measured.seconds_per_step, share=1.0)
    return Estimator(engine.shape, rate, dtype_bytes=engine.dtype.itemsize)


def limits_of(engine: Engine, settings: Settings) -> Limits:
    memory = engine.memory
    largest = _largest_clip(engine)
    return Limits(
        token_budget=settings.token_budget,
        max_jobs_in_flight=settings.max_jobs_in_flight,
        resident_bytes=_resident_bytes(engine, largest),
        # Small beside the weights: whoever is in flight may be parked.
        parked_bytes=settings.max_jobs_in_flight * parked_state_bytes(engine.shape, largest),
        swap_seconds=memory.expert_bytes / HOST_LINK_BYTES_PER_SECOND if memory.residency == "swap" else 0.0,
    )


def _resident_bytes(engine: Engine, largest: GenerationParams) -> int:
    """What a forward or a decode of the largest clip leaves for the states of jobs."""
    if math.isinf(engine.memory.room_bytes):
        return sys.maxsize
    dtype_bytes = engine.memory.dtype_bytes
    working = max(forward_bytes(engine.shape, largest, dtype_bytes=dtype_bytes), decode_bytes(engine.shape, largest))
    return max(0, int(engine.memory.room_bytes - working))


def _largest_clip(engine: Engine) -> GenerationParams:
    card = engine.card
    width, height = max(card.native_sizes, key=lambda size: size[0] * size[1])
    return dataclasses.replace(card.default_params(""), width=width, height=height)
