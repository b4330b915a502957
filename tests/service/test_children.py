"""Children are kept running, later each time, until they are stopped."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.backoff import MAX_DELAY_SECONDS, SETTLED_SECONDS
from service.children import Child, stop_all

WaitUntil = Callable[..., None]
SLEEP = "import time; time.sleep(600)"


class Clock:
    """Stands still until it is turned on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make_child(clock: Clock) -> Iterator[Callable[[str], Child]]:
    """make_child("python code"); all of them end with the test."""
    made: list[Child] = []

    def make(code: str) -> Child:
        child = Child("test", [sys.executable, "-c", code], dict(os.environ), clock=clock)
        made.append(child)
        return child

    yield make
    stop_all(made)


def test_a_child_that_ends_starts_again_after_a_delay_that_doubles(
    make_child: Callable[[str], Child], clock: Clock, wait_until: WaitUntil
) -> None:
    child = make_child("raise SystemExit(1)")

    def dies() -> bool:
        child.keep_running()
        return child.pid is None

    for delay in (1, 2, 4, 8, 16, MAX_DELAY_SECONDS, MAX_DELAY_SECONDS):
        assert child.keep_running()
        assert child.pid is not None
        wait_until(dies)
        clock.now += delay - 0.5
        child.keep_running()
        assert child.pid is None
        clock.now += 0.5


def test_a_child_that_ran_long_starts_again_soon(
    make_child: Callable[[str], Child], clock: Clock, wait_until: WaitUntil
) -> None:
    child = make_child(SLEEP)
    for _ in range(3):
        child.keep_running()
        assert child.pid is not None
        clock.now += SETTLED_SECONDS
        os.kill(child.pid, signal.SIGKILL)

        def died() -> bool:
            child.keep_running()
            return child.pid is None

        wait_until(died)
        clock.now += 1


def test_a_child_whose_settings_are_wrong_is_not_started_again(
    make_child: Callable[[str], Child], wait_until: WaitUntil
) -> None:
    child = make_child("raise SystemExit(2)")

    wait_until(lambda: not child.keep_running())


def test_a_child_that_does_not_stop_is_killed(
    make_child: Callable[[str], Child], tmp_path: Path, wait_until: WaitUntil
) -> None:
    deaf = tmp_path / "deaf"
    child = make_child(
        "import pathlib, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"pathlib.Path({str(deaf)!r}).touch(); {SLEEP}"
    )
    child.keep_running()
    pid = child.pid
    assert pid is not None
    wait_until(deaf.exists)

    child.ask_to_stop()
    child.wait_stopped(seconds=0.2)

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_a_killed_parent_takes_its_children_along(tmp_path: Path, wait_until: WaitUntil) -> None:
    note = tmp_path / "pid"
    code = (
        "import os, pathlib, sys, time; from service.children import Child\n"
        f"child = Child('c', [sys.executable, '-c', {SLEEP!r}], dict(os.environ)); child.keep_running()\n"
        f"pathlib.Path({str(note)!r}).write_text(str(child.pid)); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    try:
        wait_until(lambda: note.exists() and note.read_text())
    finally:
        parent.kill()
        parent.wait()

    wait_until(lambda: not Path(f"/proc/{note.read_text()}").exists())
