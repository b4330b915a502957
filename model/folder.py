"""A checkpoint folder in diffusers layout: are its files there, what do its configs say. No weights."""

from dataclasses import dataclass
from pathlib import Path

from model.errors import CheckpointError
from model.json_file import JsonFile
from model.shapes import CheckpointShape, TextShape, TransformerShape, VaeShape
from model.weight_files import WEIGHT_STEMS, weight_files

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
SOLVER = ("flow_prediction", 2, "bh2")
"""Prediction, order and kind of UniPC that unipc.py implements."""

TOKENIZER_FILES = ("tokenizer.json", "spiece.model")


@dataclass(frozen=True, slots=True)
class CheckpointFolder:
    """A folder in which all that the engine needs is there and of the right kind; see open_folder()."""

    path: Path
    shape: CheckpointShape
    weight_files: tuple[Path, ...]
    """All shards of all parts."""

    config_files: tuple[Path, ...]
    """Configs and tokenizer; without wanserve.json."""

    @property
    def wanserve_json(self) -> Path:
        """Our own description; absent in folders from elsewhere."""
        return self.path / "wanserve.json"


def open_folder(folder: str | Path) -> CheckpointFolder:
    """Checks a folder, or "embedded", and reads its configs. Raises CheckpointError."""
    path = embedded_path() if str(folder) == EMBEDDED else Path(folder).expanduser().absolute()
    if not path.is_dir():
        raise CheckpointError(
            f"No checkpoint folder at {path}. Give the folder of a Wan2.2 text-to-video checkpoint in "
            f'diffusers layout (it holds model_index.json), or "{EMBEDDED}".'
        )
    _check_parts(JsonFile(path / "model_index.json"))
    weights = tuple(file for part in WEIGHT_STEMS for file in weight_files(path / part))
    _check_tokenizer(path / "tokenizer")
    return CheckpointFolder(path=path, shape=_read_shape(path), weight_files=weights, config_files=_config_files(path))


def embedded_path() -> Path:
    return Path(__file__).parent / "embedded"


def _check_parts(index: JsonFile) -> None:
    if index.value_or(False, "expand_timesteps"):
        raise CheckpointError(f"{index.path} describes Wan2.2-TI2V-5B, not supported: use a T2V-A14B checkpoint.")
    if index.value_or(None, "boundary_ratio") is None or _class_name(index, "transformer_2") is None:
        raise CheckpointError(
            f"{index.path} names one expert only (no transformer_2 or boundary_ratio), like Wan2.1: "
            "use a two-expert Wan2.2 text-to-video checkpoint."
        )
    for part, expected in PARTS.items():
        found = _class_name(index, part)
        if found != expected:
            raise CheckpointError(
                f"{index.path} gives {found} for {part}, but {expected} is needed: "
                "this is not a Wan2.2 text-to-video checkpoint in diffusers layout."
            )


def _class_name(index: JsonFile, part: str) -> str | None:
    match index.value_or(None, part):
        case [_, str(name)]:
            return name
        case _:
            return None


def _check_tokenizer(folder: Path) -> None:
    JsonFile(folder / "tokenizer_config.json")
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise CheckpointError(f"{folder} holds none of {', '.join(TOKENIZER_FILES)}: download the tokenizer again.")


def _read_shape(path: Path) -> CheckpointShape:
    high, low = (_transformer_shape(path / part / "config.json") for part in EXPERTS)
    if high != low:
        raise CheckpointError(f"{path}: transformer and transformer_2 differ in their config.json; they must be alike.")
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
        boundary_ratio=JsonFile(path / "model_index.json").number("boundary_ratio"),
        num_train_timesteps=_num_train_timesteps(path / "scheduler" / "scheduler_config.json"),
    )


def _transformer_shape(file: Path) -> TransformerShape:
    config = JsonFile(file)
    match config.wholes("patch_size"):
        case (frames, height, width):
            patch_size = (frames, height, width)
        case _:
            raise config.wrong("[frames, height, width]", "patch_size")
    return TransformerShape(
        num_layers=config.whole("num_layers"),
        num_heads=config.whole("num_attention_heads"),
        head_dim=config.whole("attention_head_dim"),
        ffn_dim=config.whole("ffn_dim"),
        text_dim=config.whole("text_dim"),
        freq_dim=config.whole("freq_dim"),
        in_channels=config.whole("in_channels"),
        out_channels=config.whole_or(config.whole("in_channels"), "out_channels"),
        patch_size=patch_size,
        rope_max_seq_len=config.whole("rope_max_seq_len"),
    )


def _vae_shape(file: Path) -> VaeShape:
    config = JsonFile(file)
    if config.value_or(False, "is_residual") or config.value_or(None, "patch_size") is not None:
        raise CheckpointError(f"{file} is the VAE of Wan2.2-TI2V-5B; T2V-A14B has the Wan2.1 VAE.")
    return VaeShape(
        base_dim=config.whole_or(config.whole("base_dim"), "decoder_base_dim"),
        dim_mult=config.wholes("dim_mult"),
        num_res_blocks=config.whole("num_res_blocks"),
        z_dim=config.whole("z_dim"),
        out_channels=config.whole_or(3, "out_channels"),
        temporal_upsample=tuple(reversed(config.flags("temperal_downsample"))),
        spatial_stride=config.whole_or(8, "scale_factor_spatial"),
        temporal_stride=config.whole_or(4, "scale_factor_temporal"),
        encoder_base_dim=config.whole("base_dim"),
    )


def _text_shape(file: Path) -> TextShape:
    config = JsonFile(file)
    return TextShape(
        d_model=config.whole("d_model"),
        num_layers=config.whole("num_layers"),
        num_heads=config.whole("num_heads"),
        d_kv=config.whole("d_kv"),
        d_ff=config.whole("d_ff"),
        vocab_size=config.whole("vocab_size"),
        num_position_buckets=config.whole_or(32, "relative_attention_num_buckets"),
    )


def _num_train_timesteps(file: Path) -> int:
    config = JsonFile(file)
    solver = (config.text("prediction_type"), config.whole("solver_order"), config.text("solver_type"))
    if solver != SOLVER:
        raise CheckpointError(f"{file} asks for the solver {solver}, but the engine runs {SOLVER}.")
    return config.whole("num_train_timesteps")


def _config_files(path: Path) -> tuple[Path, ...]:
    tokenizer = (path / "tokenizer" / name for name in TOKENIZER_FILES)
    return (
        path / "model_index.json",
        *path.glob("*/*config.json"),
        *(file for file in tokenizer if file.is_file()),
    )
