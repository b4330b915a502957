"""Whether two checkpoints can give different pixels: a digest of all that they are read from."""

import functools
import hashlib
import struct
from pathlib import Path

from model.folder import CheckpointFolder
from model.schedule import SigmaGrid

WHOLE_FILE_BYTES = 256 * 2**20
"""Files up to this size are hashed whole, larger ones by header, size and samples."""

SAMPLE_BYTES = 2**20
NUM_SAMPLES = 16


def fingerprint(folder: CheckpointFolder, *, sigma_grid: SigmaGrid) -> str:
    """SHA-256 (hex) over weights, configs and tokenizer, their names, and the grid of noise levels.

    Files above 256 MiB go in by their size, safetensors header and 16 samples of 1 MiB spread evenly, so that
    70 GB take a second: two such checkpoints that differ only between the samples would look alike. Computed
    once a process; a change on disk is seen by the next one.
    """
    return _digest(folder.path, folder.weight_files + folder.config_files, sigma_grid)


@functools.cache
def _digest(root: Path, files: tuple[Path, ...], sigma_grid: SigmaGrid) -> str:
    digest = hashlib.sha256(sigma_grid.encode() + b"\0")
    for file in sorted(files):
        digest.update(file.relative_to(root).as_posix().encode() + b"\0")
        digest.update(_file_digest(file))
    return digest.hexdigest()


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
