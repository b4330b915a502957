"""Which revision of a published checkpoint a folder holds, as those who published it call it."""

import re
from pathlib import Path

_COMMIT = re.compile(r"[0-9a-f]{40}")


def hub_revision(folder: Path) -> str | None:
    """The commit on the Hugging Face hub that a folder was downloaded from; None where nothing tells it.

    `hf download` keeps a snapshot under its commit in the cache, and a note beside each file in a folder of one's own.
    """
    if folder.parent.name == "snapshots" and _COMMIT.fullmatch(folder.name):
        return folder.name
    note = folder / ".cache" / "huggingface" / "download" / "model_index.json.metadata"
    if not note.is_file():
        return None
    commit = _COMMIT.match(note.read_text(errors="replace"))
    return None if commit is None else commit[0]
