import subprocess
import sys
from pathlib import Path

import pytest

from service.errors import StartupError
from worker.scratch import scratch_folder


def test_folder_is_gone_afterwards(tmp_path: Path) -> None:
    with scratch_folder(tmp_path / "scratch") as folder:
        (folder / "half.mp4").write_bytes(b"x")
    assert list((tmp_path / "scratch").iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_a_live_one_keeps_its_folder(tmp_path: Path) -> None:
    killed = (
        "import os, pathlib, sys\n"
        "from worker.scratch import scratch_folder\n"
        "with scratch_folder(pathlib.Path(sys.argv[1])) as folder:\n"
        "    (folder / 'half.mp4').write_bytes(b'x')\n"
        "    os._exit(9)\n"
    )
    subprocess.run([sys.executable, "-c", killed, str(tmp_path)], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    with scratch_folder(tmp_path) as first, scratch_folder(tmp_path) as second:
        assert sorted(tmp_path.iterdir()) == sorted([first, second])


def test_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "scratch").write_text("a file")
    with pytest.raises(StartupError, match="choose another WANSERVE_DATA_DIR"), scratch_folder(tmp_path / "scratch"):
        pass
