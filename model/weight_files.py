"""A part's weight files: are they whole, and do they hold what the part needs. Reads headers only."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from model.errors import CheckpointError
from model.json_file import JsonFile

WEIGHT_STEMS = {
    "transformer": "diffusion_pytorch_model",
    "transformer_2": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
}
"""Part → how diffusers and transformers name its files."""

Shape = tuple[int, ...]

_LENGTH_BYTES = 8


@dataclass(frozen=True, slots=True)
class Needed:
    """One tensor that a part can't do without."""

    names: tuple[str, ...]
    """Under any of which it may be stored: tied weights have several."""

    shape: Shape


def weight_files(part: Path) -> tuple[Path, ...]:
    """One safetensors file, or all shards that the index file names. Raises CheckpointError for a missing one."""
    index = _index(part)
    if index is None:
        return (_existing(_single(part), part),)
    return tuple(_existing(part / shard, part) for shard in sorted(set(index.values())))


def check_weights(part: Path, needed: Sequence[Needed]) -> None:
    """Raises CheckpointError, which names file and tensor, for files that were cut off or don't hold what is needed.

    part: the folder. Reads no weights.
    """
    found: dict[str, tuple[Path, Shape]] = {}
    for file in weight_files(part):
        found |= {name: (file, shape) for name, shape in _read_shapes(file).items()}
    for name, shard in (_index(part) or {}).items():
        if name not in found or found[name][0].name != shard:
            raise CheckpointError(f"{part / shard} lacks {name}, which its index puts there: download the shard again.")
    for tensor in needed:
        _check_tensor(part, tensor, found)


def _check_tensor(part: Path, needed: Needed, found: Mapping[str, tuple[Path, Shape]]) -> None:
    places = [(name, *found[name]) for name in needed.names if name in found]
    if not places:
        raise CheckpointError(f"{part}: the weight files lack {needed.names[0]}: download them again.")
    for name, file, shape in places:
        if shape != needed.shape:
            raise CheckpointError(
                f"{file}: {name} has the shape {list(shape)}, but {part / 'config.json'} asks for "
                f"{list(needed.shape)}: they come from different checkpoints."
            )


def _index(part: Path) -> dict[str, str] | None:
    """Tensor → shard; None for a part in a single file."""
    file = Path(f"{_single(part)}.index.json")
    if not file.is_file():
        return None
    shards = JsonFile(file).value("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(shard, str) for shard in shards.values()):
        raise CheckpointError(f"{file} names no shards: download it again.")
    return shards


def _single(part: Path) -> Path:
    return part / f"{WEIGHT_STEMS[part.name]}.safetensors"


def _existing(file: Path, part: Path) -> Path:
    if file.is_file() and file.stat().st_size > 0:
        return file
    state = "is empty" if file.is_file() else "is missing"
    hint = ""
    if any(part.glob("*.bin")):
        hint = " Only .safetensors weights are read; the folder holds .bin files."
    raise CheckpointError(f"{file} {state}: download the checkpoint again, whole.{hint}")


def _read_shapes(file: Path) -> dict[str, Shape]:
    """Tensor → shape, after the file's size was found to be what its header says."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(_LENGTH_BYTES), "little")
        if size < _LENGTH_BYTES + length:
            raise _cut_off(file, size, _LENGTH_BYTES + length)
        text = opened.read(length)
    try:
        header = {name: entry for name, entry in json.loads(text).items() if name != "__metadata__"}
        shapes = {name: tuple(map(int, entry["shape"])) for name, entry in header.items()}
        ends = [int(entry["data_offsets"][1]) for entry in header.values()]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as e:
        raise CheckpointError(f"{file} has a broken header ({type(e).__name__}): download it again.") from e
    expected = _LENGTH_BYTES + length + max(ends, default=0)
    if size != expected:
        raise _cut_off(file, size, expected)
    return shapes


def _cut_off(file: Path, size: int, expected: int) -> CheckpointError:
    state = "was cut off" if size < expected else "goes on after its end"
    return CheckpointError(f"{file} {state}: it has {size} bytes instead of {expected}. Download it again.")
