"""`wanserve generate` works alone; what it can't do it says in one line."""

import argparse
from pathlib import Path

import av
import pytest

from worker.cli import add_generate, add_worker


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    add_worker(commands)
    add_generate(commands)
    parsed = parser.parse_args(arguments)
    return int(parsed.run(parsed))


def test_generate_writes_a_file_that_plays_and_knows_its_seed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ball.mp4"
    code = run("generate", "a red circle", "-o", str(path), "--num-inference-steps", "2", "--num-frames", "5")
    assert code == 0
    with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 5
        assert container.metadata["title"] == "a red circle"
        seed = container.metadata["seed"]
    assert f"seed {seed}" in capsys.readouterr().out


def test_generate_says_what_it_snapped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "ball.mp4"
    options = ("--size", "1280x1280", "--num-frames", "1", "--num-inference-steps", "1")
    assert run("generate", "a red circle", "-o", str(path), *options) == 0
    assert "width: 1280 was asked for, 256 is what" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("", "-o", "a.mp4"), "prompt is empty"),
        (("x" * 10_000, "-o", "a.mp4"), "prompt has 10000 characters"),
        (("a ball", "-o", "a.gif"), "must end in .mp4"),
        (("a ball", "-o", "nowhere/a.mp4"), "a folder that exists"),
        (("a ball", "-o", "a.mp4", "--guidance-scale", "nan"), "guidance_scale"),
        (("a ball", "-o", "a.mp4", "--size", "big"), "size"),
        (("a ball", "-o", "a.mp4", "--quality", "ultra"), "quality 'ultra' is unknown"),
        (("a ball", "-o", "a.mp4", "--checkpoint", "nowhere"), "nowhere"),
        (("a ball", "-o", "a.mp4", "--dtype", "int8"), "DTYPE"),
        (("a ball", "-o", "a.mp4", "--device", "cuda:99"), "device"),
    ],
)
def test_what_cannot_be_made_is_one_clear_line(
    arguments: tuple[str, ...],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("generate", *arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert complaint in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_worker_without_servers_says_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANSERVE_DATA_DIR", str(tmp_path))
    assert run("worker") == 2
    assert "start `wanserve up`, or set REDIS_URL" in capsys.readouterr().err


def test_worker_with_a_bad_setting_says_which_and_what_is_legal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANSERVE_LEASE_SECOND", "5")
    assert run("worker") == 2
    error = capsys.readouterr().err
    assert "WANSERVE_LEASE_SECOND" in error
    assert "WANSERVE_LEASE_SECONDS" in error
