"""Faster attention kernels and compiled blocks; what the device lacks is left out with one log line."""

import logging
from collections.abc import Callable, Iterable

from diffusers import WanTransformer3DModel
from diffusers.models.attention_dispatch import (
    AttentionBackendName,
    _check_attention_backend_requirements,
    dispatch_attention_fn,
)
from torch._dynamo.exc import TorchDynamoException

from model.errors import EngineError

ATTENTION_BACKENDS = {
    "native": AttentionBackendName.NATIVE,
    "cudnn": AttentionBackendName._NATIVE_CUDNN,
    "flash": AttentionBackendName.FLASH,
    "flash3": AttentionBackendName._FLASH_3,
    "sage": AttentionBackendName.SAGE,
}
"""Our names for diffusers' backends of self-attention; "native" is PyTorch's own choice among its kernels."""

log = logging.getLogger(__name__)


def check_attention_backend(name: str) -> None:
    """Raises ValueError for a name that is not in ATTENTION_BACKENDS."""
    if name not in ATTENTION_BACKENDS:
        raise ValueError(f'attention_backend is "{name}"; give {", ".join(ATTENTION_BACKENDS)}.')


def use_attention_backend(transformers: Iterable[WanTransformer3DModel], name: str) -> None:
    """Self-attention by a backend of ATTENTION_BACKENDS; where it can't run here, by "native"."""
    for transformer in transformers:
        backend = ATTENTION_BACKENDS[name]
        if reason := _why_not(backend, transformer):
            log.warning("Attention backend %s can't be used here, native runs instead: %s", name, reason)
            return
        for block in transformer.blocks:
            block.attn1.processor._attention_backend = backend


def compile_blocks(transformers: Iterable[WanTransformer3DModel], *, trial: Callable[[], object]) -> None:
    """Compiles every block; trial() runs each expert once. Where compiling fails they run uncompiled."""
    experts = list(transformers)
    for transformer in experts:
        for block in transformer.blocks:
            block.compile()
    try:
        trial()
    except (TorchDynamoException, RuntimeError, OSError, EngineError) as e:
        for transformer in experts:
            for block in transformer.blocks:
                block._compiled_call_impl = None
        log.warning("Blocks can't be compiled here and run uncompiled: %s", str(e).strip().partition("\n")[0])


def _why_not(backend: AttentionBackendName, transformer: WanTransformer3DModel) -> str | None:
    """Tries it on a few tokens: a package may be there and still refuse this device, dtype or head size."""
    config, weight = transformer.config, transformer.proj_out.weight
    tokens = weight.new_ones(1, 16, config.num_attention_heads, config.attention_head_dim)
    try:
        _check_attention_backend_requirements(backend)
        dispatch_attention_fn(tokens, tokens, tokens, backend=backend)
    # Every package refuses in its own way: a missing kernel, build or device has each another type.
    except (RuntimeError, ImportError, ValueError, NotImplementedError, AssertionError) as e:
        return str(e).strip().partition("\n")[0]
    return None
