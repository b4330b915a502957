"""Reads a checked checkpoint folder into modules on a device; decides dtypes, once and for all parts."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors import SafetensorError
from transformers import AutoTokenizer, PreTrainedTokenizerBase, UMT5EncoderModel
from transformers.utils import logging as transformers_logging

from model.errors import CheckpointError, OutOfMemory
from model.experts import Experts, use_own_attention
from model.folder import CheckpointFolder

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class Parts:
    """A checkpoint's modules, in evaluation mode, on one device."""

    tokenizer: PreTrainedTokenizerBase
    text_encoder: UMT5EncoderModel
    experts: Experts
    vae: AutoencoderKLWan
    device: torch.device
    dtype: torch.dtype
    """Of the experts; their norms, modulation and time embedding stay in float32, and so does the VAE."""


def load_parts(folder: CheckpointFolder, *, device: str = "auto", dtype: str = "auto") -> Parts:
    """Raises CheckpointError for unreadable or incomplete weights, ValueError for a bad device or dtype."""
    target = choose_device(device)
    precision = choose_dtype(dtype, target)
    with _quiet_transformers(), _translated_errors(folder.path):
        return Parts(
            tokenizer=AutoTokenizer.from_pretrained(folder.path / "tokenizer", local_files_only=True),
            text_encoder=_load_text_encoder(folder.path / "text_encoder", precision).to(target),
            experts=Experts(
                high_noise=_load_expert(folder.path / "transformer", precision).to(target),
                low_noise=_load_expert(folder.path / "transformer_2", precision).to(target),
            ),
            # The VAE shows banding and blocks below float32.
            vae=_load(AutoencoderKLWan, folder.path / "vae", torch.float32).to(target),
            device=target,
            dtype=precision,
        )


def choose_device(device: str) -> torch.device:
    """ "auto" is the first CUDA device, else the CPU."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen)
    # PyTorch answers AssertionError for a backend that it was built without.
    except (RuntimeError, AssertionError, NotImplementedError) as e:
        raise ValueError(
            f'device is "{device}", not usable here: give auto, cpu, cuda, cuda:1 or mps. Cause: {e}'
        ) from e
    return chosen


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """ "auto" is bfloat16 on CUDA devices that have it, else float16 there, and float32 elsewhere."""
    if dtype == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if dtype not in DTYPES:
        raise ValueError(f'dtype is "{dtype}"; give auto, {", ".join(DTYPES)}.')
    return DTYPES[dtype]


def _load_text_encoder(folder: Path, dtype: torch.dtype) -> UMT5EncoderModel:
    # UMT5 overflows in float16.
    return _load(UMT5EncoderModel, folder, torch.bfloat16 if dtype == torch.float16 else dtype)


def _load_expert(folder: Path, dtype: torch.dtype) -> WanTransformer3DModel:
    transformer = _load(WanTransformer3DModel, folder, dtype)
    use_own_attention(transformer)
    return transformer


def _load(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """A module with all its weights from the folder: a missing one would silently be left random."""
    module, report = kind.from_pretrained(
        folder, dtype=dtype, local_files_only=True, use_safetensors=True, output_loading_info=True
    )
    absent = sorted(report["missing_keys"])
    if absent:
        raise CheckpointError(
            f"{folder}: the weight files lack {len(absent)} tensors, {absent[0]} first: download them again."
        )
    return module.eval().requires_grad_(False)


@contextlib.contextmanager
def _translated_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as e:
        raise OutOfMemory(f"{path} does not fit into the device's memory: {e}") from e
    except (OSError, RuntimeError, ValueError, KeyError, SafetensorError) as e:
        raise CheckpointError(f"{path} can't be loaded; download it again, whole. Cause: {e}") from e


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    was_enabled = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            transformers_logging.enable_progress_bar()
