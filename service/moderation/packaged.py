"""Data files of installed packages, found without importing those packages."""

import importlib.util
from pathlib import Path

from service.errors import StartupError


def packaged_file(package: str, name: str) -> Path:
    """Raises StartupError where the package is not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise StartupError(
            f'The package {package} is not installed: run pip install "wanserve[gateway]", or "wanserve[worker]" '
            "where a worker runs."
        )
    return Path(spec.submodule_search_locations[0]) / name
