"""A process' own folder for files in the making. What a killed process left is removed by the next one."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from service.errors import StartupError


@contextlib.contextmanager
def scratch_folder(root: Path) -> Iterator[Path]:
    """A new folder under root, removed at the end. Raises StartupError when root can't be written."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root):
            _sweep(root)
            folder = Path(tempfile.mkdtemp(prefix="worker-", dir=root))
            lock = _lock(folder)
    except OSError as e:
        raise StartupError(
            f"{root} can't be written ({e.strerror}): free the disk or choose another WANSERVE_DATA_DIR."
        ) from e
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _sweep(root: Path) -> None:
    """Remove folders that no process locks: a lock ends with its process, however it ended."""
    for folder in root.glob("worker-*"):
        try:
            lock = _lock(folder, flags=fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # in use, or removed just now
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = _lock(folder)
    try:
        yield
    finally:
        os.close(lock)


def _lock(folder: Path, *, flags: int = fcntl.LOCK_EX) -> int:
    """A descriptor that holds the lock until it is closed."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, flags)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
