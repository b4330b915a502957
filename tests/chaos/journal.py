"""What the workers of a storm did, a line each in a file of each worker: what is written stays, whoever is killed."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Deed(StrEnum):
    ADMITTED = "admitted"
    """An execution begins in the engine, at `step` (0 unless it goes on from a saved state)."""

    STEPPED = "stepped"
    """It has `step` steps behind it."""

    SAVED = "saved"
    """The queue confirmed that the next execution goes on from `step`."""

    COMMITTED = "committed"
    """The queue took its outcome."""


@dataclass(frozen=True, slots=True)
class Entry:
    at: float
    """Of the clock that all processes of a machine share: time.monotonic()."""

    worker: int
    """Process id."""

    deed: Deed
    job_id: str
    execution_id: str
    step: int


class Journal:
    """One worker's file. A line is one write, so that a kill leaves whole lines only."""

    def __init__(self, folder: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._file = os.open(folder / f"{os.getpid()}.journal", flags, 0o600)

    def note(self, deed: Deed, job_id: str, execution_id: str, step: int) -> None:
        os.write(self._file, f"{time.monotonic()} {os.getpid()} {deed} {job_id} {execution_id} {step}\n".encode())


def read_journals(folder: Path) -> list[Entry]:
    """Of all workers, in the order of time."""
    return sorted(_entries(folder), key=lambda entry: entry.at)


def journal_sizes(folder: Path) -> dict[int | None, int]:
    """In bytes, by process id: one that grows belongs to a worker at work."""
    return {int(file.stem): file.stat().st_size for file in folder.glob("*.journal")}


def _entries(folder: Path) -> Iterator[Entry]:
    for file in folder.glob("*.journal"):
        for line in file.read_text().splitlines():
            at, worker, deed, job_id, execution_id, step = line.split()
            yield Entry(float(at), int(worker), Deed(deed), job_id, execution_id, int(step))
