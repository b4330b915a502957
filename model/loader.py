"""Reads a checked checkpoint folder into modules; decides dtypes and places, once and for all parts."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors import SafetensorError
from transformers import AutoTokenizer, PreTrainedTokenizerBase, UMT5Config, UMT5EncoderModel
from transformers.utils import logging as transformers_logging

from model.attention import join_self_attentions
from model.describe import read_card
from model.errors import CheckpointError, OutOfMemory
from model.experts import Experts, use_own_blocks
from model.folder import CheckpointFolder
from model.linear_layers import use_own_linear_layers
from model.memory import RESIDENCIES, MemoryPlan, ResidencyName, gigabytes, plan_memory
from model.params import GenerationParams
from model.residency import Residency, make_residency
from model.shapes import CheckpointShape
from model.text_projection import join_text_projections
from model.vae_layers import use_own_layers
from model.weight_files import Needed, check_weights

KINDS: dict[str, Any] = {
    "text_encoder": UMT5EncoderModel,
    "transformer": WanTransformer3DModel,
    "transformer_2": WanTransformer3DModel,
    "vae": AutoencoderKLWan,
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class Parts:
    """A checkpoint's modules, in evaluation mode."""

    tokenizer: PreTrainedTokenizerBase
    text_encoder: UMT5EncoderModel
    """On the device, or in host memory where the device has no room for it: see its own .device."""

    experts: Experts
    """As loaded: in host memory, unless the residency keeps both on the device."""

    residency: Residency
    """Gives the expert to run."""

    memory: MemoryPlan
    """Where the weights lie, and what that leaves; see memory.check_fits()."""

    vae: AutoencoderKLWan
    device: torch.device
    dtype: torch.dtype
    """Of the experts; their norms, modulation and time embedding stay in float32, and so does the VAE."""

    @property
    def runnable(self) -> tuple[WanTransformer3DModel, ...]:
        """The transformers on the device: both experts, or the one place that they share."""
        if self.residency.resident is None:
            return self.experts.high_noise, self.experts.low_noise
        return (self.residency.on_device,)


def load_parts(
    folder: CheckpointFolder, *, device: str = "auto", dtype: str = "auto", residency: str = "auto"
) -> Parts:
    """residency: auto, both, swap or rolling; auto keeps as much on the device as fits.

    Raises CheckpointError for unreadable or incomplete weights, OutOfMemory, and ValueError for a bad device, dtype
    or residency.
    """
    target = choose_device(device)
    precision = choose_dtype(dtype, target)
    card = read_card(folder)
    clips = [replace(card.default_params(""), width=width, height=height) for width, height in card.native_sizes]
    for part, kind in KINDS.items():
        check_weights(folder.path / part, needed_tensors(kind, folder.path / part))
    plan = choose_places(residency, shape=folder.shape, clips=clips, device=target, dtype=precision)
    text_device = target if plan.text_encoder_on_device else torch.device("cpu")
    with _quiet_transformers(), _translated_errors(folder.path):
        text_encoder = _load_text_encoder(folder.path / "text_encoder", precision, text_device)
        experts = Experts(
            high_noise=_load_expert(folder.path / "transformer", precision, target),
            low_noise=_load_expert(folder.path / "transformer_2", precision, target),
        )
        parts = Parts(
            tokenizer=AutoTokenizer.from_pretrained(folder.path / "tokenizer", local_files_only=True),
            text_encoder=text_encoder,
            experts=experts,
            residency=make_residency(plan.residency, experts, device=target),
            memory=plan,
            vae=_load_vae(folder.path / "vae", target),
            device=target,
            dtype=precision,
        )
    if target.type == "cpu" and precision == torch.float32:
        for transformer in parts.runnable:
            join_self_attentions(transformer)
            join_text_projections(transformer)
    return parts


def needed_tensors(kind: Any, part: Path) -> list[Needed]:
    """What a part made from its config.json needs; makes it without memory, on the meta device."""
    with _translated_errors(part), torch.device("meta"):
        if kind is UMT5EncoderModel:
            module = kind(UMT5Config.from_pretrained(part, local_files_only=True))
        else:
            module = kind.from_config(kind.load_config(part, local_files_only=True))
    names: dict[int, list[str]] = {}
    tensors = module.state_dict(keep_vars=True)
    for name, tensor in tensors.items():
        names.setdefault(id(tensor), []).append(name)
    return [Needed(tuple(same), tuple(tensors[same[0]].shape)) for same in names.values()]


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


def choose_places(
    residency: str,
    *,
    shape: CheckpointShape,
    clips: Sequence[GenerationParams],
    device: torch.device,
    dtype: torch.dtype,
) -> MemoryPlan:
    """Where the weights lie, with room beside them for as many of the clips as can be, each by itself.

    Asked before any is read. Raises OutOfMemory where they can't fit, ValueError.
    """
    named = _residency_name(residency)
    if device.type != "cuda":
        # Host and device share one memory: a part kept elsewhere would only be one more.
        return plan_memory(shape, clips=(), dtype_bytes=dtype.itemsize, device_bytes=math.inf, residency=named)
    free = torch.cuda.mem_get_info(device)[0]
    plan = plan_memory(shape, clips=clips, dtype_bytes=dtype.itemsize, device_bytes=free, residency=named)
    if plan.room_bytes < 0:
        raise OutOfMemory(
            f"{device} has {gigabytes(free)} free, and this checkpoint's weights need {gigabytes(plan.weight_bytes)} "
            "with the working memory of the GPU's libraries: take a larger GPU, or end what else runs on it."
        )
    return plan


def _residency_name(residency: str) -> ResidencyName | None:
    for name in RESIDENCIES:
        if residency == name:
            return name
    if residency == "auto":
        return None
    raise ValueError(f'residency is "{residency}"; give auto, {", ".join(RESIDENCIES)}.')


def _load_text_encoder(folder: Path, dtype: torch.dtype, device: torch.device) -> UMT5EncoderModel:
    # UMT5 overflows in float16.
    encoder = _load(UMT5EncoderModel, folder, torch.bfloat16 if dtype == torch.float16 else dtype)
    if device.type == "cpu" and dtype == torch.float32:
        use_own_linear_layers(encoder)
    return encoder.to(device)


def _load_expert(folder: Path, dtype: torch.dtype, device: torch.device) -> WanTransformer3DModel:
    transformer = _load(WanTransformer3DModel, folder, dtype)
    use_own_blocks(transformer)
    if device.type == "cpu" and dtype == torch.float32:
        use_own_linear_layers(transformer)
    return transformer


def _load_vae(folder: Path, device: torch.device) -> AutoencoderKLWan:
    # It shows banding and blocks below float32.
    vae = _load(AutoencoderKLWan, folder, torch.float32)
    if device.type == "cpu":
        use_own_layers(vae)
    return vae.to(device)


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
