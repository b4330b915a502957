"""`make demo`'s body, on services that run already."""

import os
import subprocess
import sys
from pathlib import Path

import av
import httpx


def demo(address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"WANSERVE_PORT": str(httpx.URL(address).port)}
    command = [sys.executable, "-m", "service.demo", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_the_demo_leaves_a_playable_file_and_says_where(up_address: str, tmp_path: Path) -> None:
    answer = demo(up_address, "--exit", "--prompt", "a red circle, 红色", "--folder", str(tmp_path / "films"))

    assert answer.returncode == 0, answer.stderr
    file = tmp_path / "films" / "a-red-circle-红色.mp4"
    assert str(file) in answer.stdout
    assert f"{up_address}/#video_" in answer.stdout
    assert "denoise" in answer.stdout
    with av.open(file) as container:
        assert len(list(container.decode(video=0))) > 1
    assert httpx.get(f"{up_address}/health").status_code == 200


def test_a_refused_prompt_ends_the_demo_with_the_reason(up_address: str, tmp_path: Path) -> None:
    answer = demo(up_address, "--exit", "--prompt", "hardcore porn", "--folder", str(tmp_path))

    assert answer.returncode == 1
    assert "refused" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_can_not_be_written_is_told(up_address: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    answer = demo(up_address, "--exit", "--prompt", "a red circle", "--folder", str(tmp_path / "file"))

    assert answer.returncode == 1
    assert "can't be written" in answer.stderr
