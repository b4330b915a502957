"""A JSON file of a checkpoint, read key by key: errors name the file, the key and what belongs there."""

import json
import math
from pathlib import Path
from typing import Any

from model.errors import CheckpointError


class JsonFile:
    """A file that holds one JSON object. Keys are given as a path: number("limits", "flow_shift", "min")."""

    def __init__(self, path: Path) -> None:
        """Raises CheckpointError for a missing or broken file, as all methods do for bad values."""
        self.path = path
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise CheckpointError(f"{path} is missing: download the checkpoint again, whole.") from None
        except (OSError, ValueError) as e:
            raise CheckpointError(f"{path} can't be read as JSON ({e}): download it again.") from e
        if not isinstance(content, dict):
            raise CheckpointError(f"{path} must hold a JSON object: download it again.")
        self._content: dict[str, Any] = content

    def value(self, *keys: str) -> Any:
        value: Any = self._content
        for key in keys:
            if not isinstance(value, dict) or key not in value:
                raise CheckpointError(f"{self.path} lacks {'.'.join(keys)}: the file is old or from elsewhere.")
            value = value[key]
        return value

    def value_or(self, default: Any, key: str) -> Any:
        """The value of a key that files may leave out or set to null."""
        value = self._content.get(key)
        return default if value is None else value

    def whole(self, *keys: str) -> int:
        value = self.value(*keys)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong("a whole number", *keys)
        return value

    def whole_or(self, default: int, key: str) -> int:
        """The same for a key that files may leave out or set to null."""
        return default if self.value_or(None, key) is None else self.whole(key)

    def flags(self, *keys: str) -> tuple[bool, ...]:
        value = self.value(*keys)
        if not isinstance(value, list) or not all(isinstance(item, bool) for item in value):
            raise self.wrong("a list of true and false", *keys)
        return tuple(value)

    def wholes(self, *keys: str) -> tuple[int, ...]:
        value = self.value(*keys)
        if not isinstance(value, list) or not value or not all(type(item) is int for item in value):
            raise self.wrong("a list of whole numbers", *keys)
        return tuple(value)

    def number(self, *keys: str) -> float:
        value = self.value(*keys)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.wrong("a number", *keys)
        return float(value)

    def text(self, *keys: str) -> str:
        value = self.value(*keys)
        if not isinstance(value, str):
            raise self.wrong("a string", *keys)
        return value

    def texts(self, *keys: str) -> tuple[str, ...]:
        value = self.value(*keys)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.wrong("a list of strings", *keys)
        return tuple(value)

    def wrong(self, expected: str, *keys: str) -> CheckpointError:
        return CheckpointError(f"{self.path}: {'.'.join(keys)} must be {expected}.")
