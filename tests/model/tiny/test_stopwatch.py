"""A training stage that is killed and run again tells the seconds of all its runs."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from model.tiny.plan import SHORT, Plan
from model.tiny.stopwatch import Stopwatch
from model.tiny.train import _run

RUN_UNTIL_KILLED = """
import sys, time
from pathlib import Path
from model.tiny.stopwatch import Stopwatch
with Stopwatch(Path(sys.argv[1]), note_every=0.05):
    time.sleep(600)
"""


def test_the_seconds_of_a_killed_run_count(tmp_path: Path) -> None:
    path = tmp_path / "stage.seconds"
    killed = subprocess.Popen([sys.executable, "-c", RUN_UNTIL_KILLED, str(path)])
    deadline = time.monotonic() + 60
    while not (path.exists() and float(path.read_text()) >= 0.3):
        assert time.monotonic() < deadline
        assert killed.poll() is None
        time.sleep(0.05)
    killed.kill()
    killed.wait()
    before = float(path.read_text())

    with Stopwatch(path) as watch:
        pass

    assert before <= watch.seconds
    assert float(path.read_text()) >= before


def test_a_stage_that_fails_keeps_its_seconds_and_its_marker_tells_them_all(tmp_path: Path) -> None:
    tries = []

    def stage(work: Path, plan: Plan) -> None:
        tries.append(plan)
        time.sleep(0.8)
        if len(tries) == 1:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        _run(tmp_path, "stage", stage, SHORT)
    assert not (tmp_path / "done" / "stage.json").exists()
    _run(tmp_path, "stage", stage, SHORT)

    assert len(tries) == 2
    assert json.loads((tmp_path / "done" / "stage.json").read_text())["seconds"] >= 2
