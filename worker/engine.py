"""The engine as the settings want it."""

import torch

from model.engine import Engine
from service.settings import Settings


def load_engine(settings: Settings) -> Engine:
    """Raises CheckpointError, OutOfMemory, and ValueError for a device or dtype that isn't there."""
    if settings.cpu_threads is not None:
        torch.set_num_threads(settings.cpu_threads)
    return Engine.from_pretrained(
        settings.checkpoint,
        device=settings.device,
        dtype=settings.dtype,
        residency=settings.residency,
        batch_invariant=settings.batch_invariant,
        attention_backend=settings.attention_backend,
        compile_blocks=settings.compile_blocks,
    )
