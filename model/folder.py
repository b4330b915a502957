"""A checkpoint folder in diffusers layout: are its files there, what do its configs say. No weights."""

import functools
import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.errors import CheckpointError
from model.shapes import CheckpointShape, TextShape, TransformerShape, VaeShape

EMBEDDED = "embedded"
"""The name of the checkpoint that comes with the package, where a folder is expected."""

EXPERTS = ("transformer", "transformer_2")
"""High-noise and low-noise expert, as diffusers names them."""

PARTS = {
    "transformer": "WanTransformer3DModel",
    "transformer_2": "WanTransformer3DModel",
    "vae": "AutoencoderKLWan",
    "text_encoder": "UMT5EncoderModel",
    "scheduler": "UniPCMultistepScheduler",
}
WEIGHT_STEMS = {
    "transformer": "diffusion_pytorch_model",
    "transformer_2": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
}
TOKENIZER_FILES = ("tokenizer.json", "spiece.model")
WHOLE_FILE_BYTES = 256 * 2**20
"""Files up to this size are hashed whole, larger ones by header, size and samples."""

SAMPLE_BYTES = 2**20
NUM_SAMPLES = 16


@dataclass(frozen=True, slots=True)
class CheckpointFolder:
    """A folder in which all that the engine needs is there and of the right kind; see open_folder()."""

    path: Path
    shape: CheckpointShape
    weight_files: tuple[Path, ...]

    @property
    def wanserve_json(self) -> Path:
        """Our own description; absent in folders from elsewhere."""
        return self.path / "wanserve.json"

    def fingerprint(self) -> str:
        """SHA-256 (hex) over all that changes pixels: weights, configs and tokenizer, not wanserve.json.

        Weight files above 256 MiB go in by their size, safetensors header and 16 samples of 1 MiB spread
        evenly, so that 70 GB take a second: two such checkpoints that differ only between the samples would
        look alike. Computed once a process; a change on disk is seen by the next one.
        """
        return _fingerprint(self.path, self.weight_files)


def open_folder(folder: str | Path) -> CheckpointFolder:
    """Checks a folder, or "embedded", and reads its configs. Raises CheckpointError."""
    path = embedded_path() if str(folder) == EMBEDDED else Path(folder).expanduser()
    if not path.is_dir():
        raise CheckpointError(
            f"No checkpoint folder at {path}. Give the folder of a Wan2.2 text-to-video checkpoint in "
            f'diffusers layout (it holds model_index.json), or "{EMBEDDED}".'
        )
    _check_parts(path, _read_json(path / "model_index.json"))
    weights = tuple(file for part in WEIGHT_STEMS for file in _weight_files(path / part, WEIGHT_STEMS[part]))
    _check_tokenizer(path / "tokenizer")
    return CheckpointFolder(path=path, shape=_read_shape(path), weight_files=weights)


def embedded_path() -> Path:
    return Path(__file__).parent / "embedded"


def _check_parts(path: Path, index: dict[str, Any]) -> None:
    file = path / "model_index.json"
    if index.get("expand_timesteps"):
        raise CheckpointError(
            f"{file} describes Wan2.2-TI2V-5B, which is not supported: use a T2V-A14B checkpoint."
        )
    if index.get("boundary_ratio") is None or index.get("transformer_2", [None])[0] is None:
        raise CheckpointError(
            f"{file} names one expert only (no transformer_2 or boundary_ratio), like Wan2.1: "
            "use a two-expert Wan2.2 text-to-video checkpoint."
        )
    for part, expected in PARTS.items():
        found = (index.get(part) or [None, None])[1]
        if found != expected:
            raise CheckpointError(
                f"{file} gives {found} for {part}, but {expected} is needed: "
                "this is not a Wan2.2 text-to-video checkpoint in diffusers layout."
            )


def _weight_files(folder: Path, stem: str) -> tuple[Path, ...]:
    """One safetensors file, or all shards that the index file names."""
    index = folder / f"{stem}.safetensors.index.json"
    if not index.is_file():
        return (_existing(folder / f"{stem}.safetensors", folder),)
    shards = _read_json(index).get("weight_map", {}).values()
    if not shards:
        raise CheckpointError(f"{index} names no shards: download it again.")
    return tuple(_existing(folder / shard, folder) for shard in sorted(set(shards)))


def _existing(file: Path, folder: Path) -> Path:
    if file.is_file() and file.stat().st_size > 0:
        return file
    state = "is empty" if file.is_file() else "is missing"
    hint = ""
    if any(folder.glob("*.bin")):
        hint = " Only .safetensors weights are read; the folder holds .bin files."
    raise CheckpointError(f"{file} {state}: download the checkpoint again, whole.{hint}")


def _check_tokenizer(folder: Path) -> None:
    _read_json(folder / "tokenizer_config.json")
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise CheckpointError(
            f"{folder} holds none of {', '.join(TOKENIZER_FILES)}: download the tokenizer again."
        )


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{file} is missing: download the checkpoint again, whole.") from None
    except (OSError, ValueError) as e:
        raise CheckpointError(f"{file} can't be read as JSON ({e}): download it again.") from e
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} must hold a JSON object: download it again.")
    return content


def _read_shape(path: Path) -> CheckpointShape:
    high, low = (_transformer_shape(path / part / "config.json") for part in EXPERTS)
    if high != low:
        raise CheckpointError(
            f"{path}: transformer and transformer_2 differ in their config.json; they must be alike."
        )
    vae = _vae_shape(path / "vae" / "config.json")
    if high.in_channels != vae.z_dim or high.out_channels != vae.z_dim:
        raise CheckpointError(
            f"{path / 'transformer' / 'config.json'}: {high.in_channels} input channels do not match the "
            f"VAE's {vae.z_dim}: an image-to-video checkpoint can't be served, use a text-to-video one."
        )
    text = _text_shape(path / "text_encoder" / "config.json")
    if high.text_dim != text.d_model:
        raise CheckpointError(
            f"{path / 'text_encoder' / 'config.json'}: d_model {text.d_model} does not match the "
            f"transformer's text_dim {high.text_dim}: the parts come from different checkpoints."
        )
    return CheckpointShape(
        transformer=high,
        vae=vae,
        text=text,
        boundary_ratio=float(_read_json(path / "model_index.json")["boundary_ratio"]),
        num_train_timesteps=_num_train_timesteps(path / "scheduler" / "scheduler_config.json"),
    )


def _transformer_shape(file: Path) -> TransformerShape:
    config = _read_json(file)
    try:
        return TransformerShape(
            num_layers=config["num_layers"],
            num_heads=config["num_attention_heads"],
            head_dim=config["attention_head_dim"],
            ffn_dim=config["ffn_dim"],
            text_dim=config["text_dim"],
            freq_dim=config["freq_dim"],
            in_channels=config["in_channels"],
            out_channels=config["out_channels"] or config["in_channels"],
            patch_size=tuple(config["patch_size"]),
            rope_max_seq_len=config["rope_max_seq_len"],
        )
    except KeyError as e:
        raise _lacks(file, e) from None


def _vae_shape(file: Path) -> VaeShape:
    config = _read_json(file)
    if config.get("is_residual") or config.get("patch_size") is not None:
        raise CheckpointError(
            f"{file} is the VAE of Wan2.2-TI2V-5B; a T2V-A14B checkpoint has the Wan2.1 VAE."
        )
    try:
        return VaeShape(
            base_dim=config.get("decoder_base_dim") or config["base_dim"],
            dim_mult=tuple(config["dim_mult"]),
            num_res_blocks=config["num_res_blocks"],
            z_dim=config["z_dim"],
            out_channels=config.get("out_channels", 3),
            temporal_upsample=tuple(reversed(config["temperal_downsample"])),
            spatial_stride=config.get("scale_factor_spatial", 8),
            temporal_stride=config.get("scale_factor_temporal", 4),
        )
    except KeyError as e:
        raise _lacks(file, e) from None


def _text_shape(file: Path) -> TextShape:
    config = _read_json(file)
    try:
        return TextShape(
            d_model=config["d_model"],
            num_layers=config["num_layers"],
            num_heads=config["num_heads"],
            d_kv=config["d_kv"],
            d_ff=config["d_ff"],
        )
    except KeyError as e:
        raise _lacks(file, e) from None


def _num_train_timesteps(file: Path) -> int:
    config = _read_json(file)
    solver = (config.get("prediction_type"), config.get("solver_order", 2), config.get("solver_type", "bh2"))
    if solver != ("flow_prediction", 2, "bh2"):
        raise CheckpointError(
            f"{file} asks for {solver}, but the engine's solver is UniPC of order 2 (bh2) on flow_prediction."
        )
    return int(config.get("num_train_timesteps", 1000))


def _lacks(file: Path, error: KeyError) -> CheckpointError:
    return CheckpointError(f"{file} lacks the key {error}: it is not the config of a Wan2.2 checkpoint.")


@functools.cache
def _fingerprint(path: Path, weight_files: tuple[Path, ...]) -> str:
    digest = hashlib.sha256()
    for file in sorted({*weight_files, *_small_files(path)}):
        digest.update(file.relative_to(path).as_posix().encode() + b"\0")
        digest.update(_file_digest(file))
    return digest.hexdigest()


def _small_files(path: Path) -> list[Path]:
    configs = [path / "model_index.json", *path.glob("*/*config.json")]
    return configs + [file for name in TOKENIZER_FILES if (file := path / "tokenizer" / name).is_file()]


def _file_digest(file: Path) -> bytes:
    size = file.stat().st_size
    with file.open("rb") as stream:
        if size <= WHOLE_FILE_BYTES:
            return hashlib.file_digest(stream, "sha256").digest()
        digest = hashlib.sha256(struct.pack("<Q", size))
        (header_bytes,) = struct.unpack("<Q", stream.read(8))
        digest.update(stream.read(min(header_bytes, size)))
        for sample in range(NUM_SAMPLES):
            stream.seek((size - SAMPLE_BYTES) * sample // (NUM_SAMPLES - 1))
            digest.update(stream.read(SAMPLE_BYTES))
    return digest.digest()
