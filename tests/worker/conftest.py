import pytest

from model.engine import Engine


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The embedded checkpoint, in float32 on the CPU."""
    return Engine.from_pretrained("embedded", device="cpu", dtype="float32")
