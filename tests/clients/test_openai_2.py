"""The SDK tests again, by the openai SDK before the newest one, which has a folder of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import UP_ADDRESS

SDK = Path(sys.prefix) / "openai-2"
TESTS = [str(Path(__file__).with_name(name)) for name in ("test_openai_sdk.py", "test_openai_batches.py")]


@pytest.fixture
def environment(up_address: str) -> dict[str, str]:
    if not (SDK / "openai").is_dir():
        pytest.skip("no openai SDK 2.x: `make test` puts it into the environment")
    return os.environ | {"PYTHONPATH": str(SDK), UP_ADDRESS: up_address}


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_everything_works_with_openai_2_too(environment: dict[str, str]) -> None:
    assert run(environment, "-c", "import openai; print(openai.__version__)").stdout.startswith("2.")

    tested = run(environment, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS)

    assert tested.returncode == 0, tested.stdout[-8000:]
