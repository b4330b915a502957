"""`wanserve`, as a user types it."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from redis import Redis

from service.embedded import EmbeddedServers

WANSERVE = [sys.executable, "-m", "service.cli"]


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | variables
    return subprocess.run([*WANSERVE, *arguments], env=environment, capture_output=True, text=True, timeout=120)


def test_help_lists_the_commands_of_both_sides() -> None:
    answer = run("--help")

    assert answer.returncode == 0
    for command in ("up", "gateway", "keys", "worker", "generate"):
        assert f"    {command} " in answer.stdout


@pytest.mark.parametrize("arguments", [[], ["fly"], ["up", "--port", "many"]])
def test_a_wrong_command_line_is_refused(arguments: list[str]) -> None:
    assert run(*arguments).returncode == 2


def test_a_taken_port_is_told_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])

        answer = run("up", WANSERVE_PORT=port, WANSERVE_DATA_DIR=str(tmp_path / "data"))

    assert answer.returncode == 1
    assert f"Port {port} on 127.0.0.1 is taken" in answer.stderr
    assert "WANSERVE_PORT=" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("command", ["up", "gateway"])
def test_an_address_that_others_reach_is_refused_while_there_is_no_key(
    servers: EmbeddedServers, redis: Redis, tmp_path: Path, free_port: Callable[[], int], command: str
) -> None:
    changes = {"host": "0.0.0.0", "data_dir": tmp_path / "data", "port": free_port()}

    answer = run(command, **servers.settings.with_changes(**changes).to_environment())

    assert answer.returncode == {"up": 1, "gateway": 2}[command]
    assert "make one with `wanserve keys create --tenant NAME`" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_gateway_that_asks_for_keys_takes_the_one_that_was_made(
    servers: EmbeddedServers,
    redis: Redis,
    tmp_path: Path,
    free_port: Callable[[], int],
    wait_until: Callable[..., None],
) -> None:
    settings = servers.settings.with_changes(require_keys=True, data_dir=tmp_path / "data", port=free_port())
    key = run("keys", "create", "--tenant", "acme", **settings.to_environment()).stdout.strip()
    command = [*WANSERVE, "gateway"]
    with subprocess.Popen(command, env=os.environ | settings.to_environment(), stderr=subprocess.DEVNULL) as gateway:
        try:
            wait_until(lambda: is_up(settings.port))
            videos = f"http://127.0.0.1:{settings.port}/v1/videos"
            known = {"Host": "gateway.example", "Authorization": f"Bearer {key}"}

            assert httpx.get(videos).status_code == 401
            assert httpx.get(videos, headers=known).json()["data"] == []
        finally:
            gateway.terminate()


@pytest.mark.parametrize(
    ("variable", "value"), [("WANSERVE_PORT", "many"), ("WANSERVE_PROT", "1"), ("WANSERVE_DTYPE", "int4")]
)
def test_a_wrong_setting_is_named(variable: str, value: str) -> None:
    answer = run("gateway", **{variable: value})

    assert answer.returncode == 2
    assert variable in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_gateway_without_redis_says_what_to_start(tmp_path: Path) -> None:
    answer = run("gateway", WANSERVE_DATA_DIR=str(tmp_path))

    assert answer.returncode == 2
    assert "wanserve up" in answer.stderr


def test_a_worker_that_can_not_start_ends_everything_with_its_reason(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    checkpoint = tmp_path / "no checkpoint"
    checkpoint.mkdir()

    answer = run(
        "up",
        WANSERVE_DATA_DIR=str(tmp_path / "data"),
        WANSERVE_PORT=str(free_port()),
        WANSERVE_CHECKPOINT=str(checkpoint),
    )

    assert answer.returncode == 1
    assert str(checkpoint) in answer.stderr
    assert "worker can't run" in answer.stdout
    assert processes_that_mention(tmp_path) == []


def test_up_starts_a_dead_gateway_again_and_leaves_nothing_behind(
    tmp_path: Path, free_port: Callable[[], int], wait_until: Callable[..., None]
) -> None:
    port = free_port()
    environment = os.environ | {"WANSERVE_DATA_DIR": str(tmp_path / "data"), "WANSERVE_PORT": str(port)}
    log = (tmp_path / "log").open("wb")
    with log, subprocess.Popen([*WANSERVE, "up"], env=environment, stdout=log, stderr=log) as up:
        try:
            wait_until(lambda: is_up(port), seconds=120)
            [gateway] = children_that_run(up.pid, "service.api")

            os.kill(gateway, signal.SIGKILL)
            wait_until(lambda: children_that_run(up.pid, "service.api") not in ([], [gateway]), seconds=120)
            wait_until(lambda: is_up(port), seconds=120)
        finally:
            up.send_signal(signal.SIGINT)
            up.wait(timeout=120)

    assert up.returncode == 0
    assert processes_that_mention(tmp_path) == []


def is_up(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/ready", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def children_that_run(parent: int, words: str) -> list[int]:
    return [pid for pid, command in processes() if words in command and parent_of(pid) == parent]


def processes_that_mention(folder: Path) -> list[str]:
    return [command for _, command in processes() if str(folder) in command]


def processes() -> list[tuple[int, str]]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            found.append((int(entry.name), (entry / "cmdline").read_text().replace("\0", " ")))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
