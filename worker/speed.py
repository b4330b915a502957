"""How fast this machine is: a short probe at the card's default size, so that waiting times can be told."""

import dataclasses
import time

import torch

from model.engine import Engine
from service.jobs.card import Measured

PROBE_STEPS = 2


def measure(engine: Engine) -> Measured:
    """Denoises a default clip for two steps and decodes it; the clip's seconds follow from these.

    The engine must be warm. Raises OutOfMemory when the default clip does not fit.
    """
    default = engine.card.default_params("a probe of this machine's speed")
    request = engine.prepare(dataclasses.replace(default, num_inference_steps=PROBE_STEPS))
    step_seconds = []
    while not request.is_denoised:
        started = time.monotonic()
        engine.step([request])
        step_seconds.append(time.monotonic() - started)
    decode_seconds = engine.decode(request).seconds.decode
    # The fastest step: the first one of an expert also prepares its text.
    per_step = min(step_seconds)
    return Measured(
        seconds_per_step=per_step,
        seconds_per_clip=request.text_seconds + per_step * default.num_inference_steps + decode_seconds,
        device=device_name(engine.device),
        dtype=str(engine.dtype).removeprefix("torch."),
    )


def device_name(device: torch.device) -> str:
    """What an operator calls it: cpu, mps, or the GPU's product name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
