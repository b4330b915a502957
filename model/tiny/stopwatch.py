"""The seconds a stage took, those of interrupted runs included."""

import threading
import time
from pathlib import Path

NOTE_EVERY = 10.0


class Stopwatch:
    """Goes on from what `path` tells, and notes the seconds there while it runs: a killed run's count as well."""

    def __init__(self, path: Path, note_every: float = NOTE_EVERY) -> None:
        self._path, self._note_every = path, note_every
        self._before = float(path.read_text()) if path.exists() else 0.0
        self._is_over = threading.Event()
        self._noter = threading.Thread(target=self._note_until_over, daemon=True)

    def __enter__(self) -> "Stopwatch":
        self._began = time.monotonic()
        self._noter.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._noter.join()
        self._note()

    @property
    def seconds(self) -> float:
        """So far, in all runs."""
        return self._before + time.monotonic() - self._began

    def _note_until_over(self) -> None:
        while not self._is_over.wait(self._note_every):
            self._note()

    def _note(self) -> None:
        draft = self._path.with_suffix(".new")
        draft.write_text(f"{self.seconds:.1f}")
        draft.replace(self._path)
