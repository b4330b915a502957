"""`wanserve videos` against a whole `wanserve up`."""

import os
import subprocess
import sys
from pathlib import Path

import av


def test_one_command_makes_a_file_that_plays(up_address: str, tmp_path: Path) -> None:
    file = tmp_path / "star.mp4"
    command = [sys.executable, "-m", "service.cli", "videos", "create", "a white star rests on a red background"]
    options = ["--server", up_address, "--quality", "draft", "--seed", "5", "-o", str(file)]

    answer = subprocess.run([*command, *options], env=os.environ.copy(), capture_output=True, text=True, timeout=120)

    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("video_")
    assert "100%" in answer.stderr
    with av.open(str(file)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 17
