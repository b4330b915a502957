"""A worker process before it serves."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from service.settings import Settings


def test_worker_waits_for_redis_before_it_loads_the_model(
    tmp_path: Path, free_port: Callable[[], int], wait_until: Callable[..., None]
) -> None:
    settings = Settings(
        data_dir=tmp_path / "data", redis_url=f"redis://127.0.0.1:{free_port()}/0", s3_endpoint="http://127.0.0.1:1"
    )
    log = tmp_path / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen([sys.executable, "-m", "worker"], env=settings.child_environment(), stderr=output) as process,
    ):
        try:
            wait_until(lambda: process.poll() is not None or "server_unavailable" in log.read_text())
            assert process.poll() is None
            assert "model_loading" not in log.read_text()
        finally:
            process.kill()
