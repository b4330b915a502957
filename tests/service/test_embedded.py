"""Embedded servers: started, reused, revived, stopped, and cleaned up after a parent that was killed."""

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from service.embedded import EmbeddedServers, attach
from service.embedded.process import RunFile, free_ports, process_start
from service.embedded.seaweed import SeaweedFS
from service.embedded.valkey import Valkey
from service.errors import EmbeddedServerError
from service.jobs.connection import connect
from service.settings import Settings
from service.storage import Storage, open_storage

NO_S3 = {"s3_endpoint": "http://127.0.0.1:1"}
"""Keeps SeaweedFS from being started where only Valkey matters."""


@pytest.fixture
def valkey_only(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", **NO_S3)


@pytest.fixture
def owner(valkey_only: Settings) -> Iterator[subprocess.Popen[str]]:
    """Another process that runs the server under the same data_dir."""
    program = (
        "import sys\n"
        "from service.logs import configure_logs\n"
        "from service.embedded import EmbeddedServers\n"
        "from service.settings import Settings\n"
        "configure_logs(Settings.load(), process='up')\n"
        "with EmbeddedServers.start(Settings.load()):\n"
        "    print('up', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    environment = {**os.environ, **valkey_only.to_environment()}
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        yield process
        process.kill()


def run_file(settings: Settings, name: str = "valkey") -> RunFile:
    return RunFile.model_validate_json((settings.data_dir / name / "run.json").read_text())


def ping(settings: Settings) -> bool:
    assert settings.redis_url is not None
    with connect(settings.redis_url) as redis:
        return bool(redis.ping())


def test_both_servers_start_and_keep_what_they_were_given(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data dir with spaces")
    source = tmp_path / "source.mp4"
    source.write_bytes(b"0123456789")
    with EmbeddedServers.start(settings) as servers:
        first = servers.settings
        storage = open_storage(first)
        storage.ensure_bucket()
        storage.put_file("a/video.mp4", source, content_type="video/mp4")
        with connect(str(first.redis_url)) as redis:
            redis.set("k", "v")
        storage.close()

    with EmbeddedServers.start(settings) as servers:
        # The same addresses, so that whoever wrote them down still reaches us.
        assert servers.settings == first
        storage = open_storage(servers.settings)
        assert b"".join(storage.read("a/video.mp4")) == b"0123456789"
        storage.close()
        with connect(str(servers.settings.redis_url)) as redis:
            assert redis.get("k") == "v"
        seaweed_pid = run_file(settings, "seaweedfs").pid

    assert process_start(seaweed_pid) is None
    leftovers = SeaweedFS(settings.data_dir).leftovers(run_file(settings, "seaweedfs").ports)
    assert not any(path.exists() for path in leftovers)


@pytest.mark.parametrize("headers", [{"Origin": "http://evil.example"}, {"Host": "evil.example"}])
def test_no_website_can_list_read_or_delete_objects_through_any_port(
    servers: EmbeddedServers, settings: Settings, storage: Storage, tmp_path: Path, headers: dict[str, str]
) -> None:
    source = tmp_path / "source.mp4"
    source.write_bytes(b"pixels of mine")
    storage.put_file("a/video.mp4", source, content_type="video/mp4")
    folder = f"/buckets/{settings.bucket}"
    requests = [
        ("GET", f"{folder}/a/?pretty=y"),
        ("GET", f"{folder}/a/video.mp4"),
        ("GET", f"/{settings.bucket}/a/video.mp4"),
        ("GET", f"/{settings.bucket}?list-type=2"),
        ("POST", f"{folder}/a/video.mp4"),
        ("DELETE", f"{folder}/a/video.mp4"),
        ("DELETE", f"{folder}?recursive=true"),
        ("GET", "/dir/assign"),
        ("GET", "/dir/lookup?fileId=1,01&read=yes"),
        ("GET", f"/col/delete?collection={settings.bucket}"),
        ("GET", "/1,0100000000"),
        ("DELETE", "/1,0100000000"),
    ]

    for name, port in run_file(servers.settings, "seaweedfs").ports.items():
        if name.endswith(".grpc"):
            continue
        for method, path in requests:
            answer = httpx.request(method, f"http://127.0.0.1:{port}{path}", headers=headers, trust_env=False)
            assert answer.status_code >= 400, (name, method, path)
            assert b"pixels" not in answer.content, (name, method, path)

    assert b"".join(storage.read("a/video.mp4")) == b"pixels of mine"


def test_what_the_settings_name_is_not_started(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", redis_url="redis://127.0.0.1:1/0", **NO_S3)

    with EmbeddedServers.start(settings) as servers:
        assert servers.settings == settings

    assert not (tmp_path / "data").exists()


def test_valkey_is_durable_private_and_refuses_to_forget(valkey_only: Settings) -> None:
    with EmbeddedServers.start(valkey_only) as servers, connect(str(servers.settings.redis_url)) as redis:
        config = redis.config_get("append*", "maxmemory-policy", "bind")
        secret = valkey_only.data_dir / "valkey" / "password"

        assert (config["appendonly"], config["appendfsync"]) == ("yes", "always")
        assert (config["maxmemory-policy"], config["bind"]) == ("noeviction", "127.0.0.1")
        assert secret.stat().st_mode & 0o777 == 0o600
        command_line = Path(f"/proc/{run_file(valkey_only).pid}/cmdline")
        assert secret.read_text() not in command_line.read_text()


def test_a_server_of_another_living_process_is_reused_and_left_running(
    valkey_only: Settings, owner: subprocess.Popen[str]
) -> None:
    before = run_file(valkey_only)

    with EmbeddedServers.start(valkey_only) as servers:
        assert ping(servers.settings)
        assert run_file(valkey_only) == before

    assert ping(attach(valkey_only))


def test_the_owner_stops_its_server_when_it_leaves(
    valkey_only: Settings, owner: subprocess.Popen[str], wait_until: Callable[..., None]
) -> None:
    run = run_file(valkey_only)
    assert owner.stdin is not None
    owner.stdin.close()
    owner.wait(30)

    wait_until(lambda: not run.is_alive)
    with pytest.raises(EmbeddedServerError, match="start `wanserve up`, or set REDIS_URL"):
        attach(valkey_only)


@pytest.mark.skipif(sys.platform != "linux", reason="needs the parent-death signal")
def test_a_killed_owner_takes_its_server_with_it(
    valkey_only: Settings, owner: subprocess.Popen[str], wait_until: Callable[..., None]
) -> None:
    run = run_file(valkey_only)
    assert run.is_alive

    owner.kill()
    owner.wait()

    wait_until(lambda: not run.is_alive)


def test_an_orphan_is_stopped_and_its_data_kept(valkey_only: Settings, wait_until: Callable[..., None]) -> None:
    # As on a system without the parent-death signal: the server lives, its owner does not.
    valkey = Valkey(valkey_only.data_dir)
    valkey.folder.mkdir(parents=True)
    ports = free_ports(valkey.port_names)
    with subprocess.Popen(valkey.command(ports), cwd=valkey.folder, stdout=subprocess.DEVNULL) as process:
        started = process_start(process.pid)
        assert started is not None
        orphan = RunFile(pid=process.pid, started=started, owner_pid=1, owner_started="x", ports=ports)
        valkey.run_file.write_text(orphan.model_dump_json())
        wait_until(lambda: valkey.is_ready(ports))
        with connect(str(attach(valkey_only).redis_url)) as redis:
            redis.set("k", "v")

        with EmbeddedServers.start(valkey_only) as servers:
            assert not orphan.is_alive
            with connect(str(servers.settings.redis_url)) as redis:
                assert redis.get("k") == "v"


def test_a_server_that_died_comes_back_on_its_port(valkey_only: Settings, wait_until: Callable[..., None]) -> None:
    with EmbeddedServers.start(valkey_only) as servers:
        assert servers.revive() == []
        run = run_file(valkey_only)
        os.kill(run.pid, signal.SIGKILL)

        wait_until(lambda: servers.revive() == ["valkey"])

        assert ping(servers.settings)
        assert run_file(valkey_only).ports == run.ports


def test_a_server_that_dies_again_and_again_is_restarted_later_each_time(
    valkey_only: Settings, wait_until: Callable[..., None]
) -> None:
    with EmbeddedServers.start(valkey_only) as servers:
        os.kill(run_file(valkey_only).pid, signal.SIGKILL)
        wait_until(lambda: servers.revive() == ["valkey"])
        run = run_file(valkey_only)
        os.kill(run.pid, signal.SIGKILL)
        wait_until(lambda: not run.is_alive)
        assert servers.revive() == []

        wait_until(lambda: servers.revive() == ["valkey"])


def test_a_restart_on_a_full_disk_says_so_and_is_tried_again(
    valkey_only: Settings, wait_until: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with EmbeddedServers.start(valkey_only) as servers:
        run = run_file(valkey_only)
        os.kill(run.pid, signal.SIGKILL)
        wait_until(lambda: not run.is_alive)

        with monkeypatch.context() as full:
            full.setattr(Valkey, "_write_run_file", raise_full_disk)
            with pytest.raises(EmbeddedServerError, match=r"No space left on device.*free some space"):
                # Until it is reaped, it is not known to be dead.
                wait_until(lambda: servers.revive() != [])

        wait_until(lambda: servers.revive() == ["valkey"])
        assert ping(servers.settings)


def raise_full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_the_log_keeps_what_a_server_said_before_it_died(
    valkey_only: Settings, wait_until: Callable[..., None]
) -> None:
    log = valkey_only.data_dir / "valkey" / "server.log"
    with EmbeddedServers.start(valkey_only) as servers:
        run = run_file(valkey_only)
        os.kill(run.pid, signal.SIGKILL)
        wait_until(lambda: not run.is_alive)
        before = log.read_bytes()
        wait_until(lambda: servers.revive() == ["valkey"])

        wait_until(lambda: len(log.read_bytes()) > len(before) > 0)
        assert log.read_bytes().startswith(before)


def test_a_long_log_is_put_aside(valkey_only: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.embedded.process.MAX_LOG_BYTES", 100)
    log = valkey_only.data_dir / "valkey" / "server.log"
    log.parent.mkdir(parents=True)
    log.write_text("old " * 100)

    with EmbeddedServers.start(valkey_only):
        assert log.with_name("server.log.1").read_text() == "old " * 100
        assert "old" not in log.read_text()


def test_a_taken_port_is_left_to_its_owner(valkey_only: Settings) -> None:
    with EmbeddedServers.start(valkey_only):
        port = run_file(valkey_only).ports["port"]
    with socket.create_server(("127.0.0.1", port)), EmbeddedServers.start(valkey_only) as servers:
        assert run_file(valkey_only).ports["port"] != port
        assert ping(servers.settings)


def test_a_run_file_of_a_process_id_used_again_is_not_believed(valkey_only: Settings) -> None:
    folder = valkey_only.data_dir / "valkey"
    folder.mkdir(parents=True)
    stale = RunFile(pid=os.getpid(), started="long ago", owner_pid=1, owner_started="x", ports={"port": 1})
    (folder / "run.json").write_text(stale.model_dump_json())

    with EmbeddedServers.start(valkey_only) as servers:
        assert ping(servers.settings)


def test_a_server_that_cannot_start_says_what_it_said(valkey_only: Settings) -> None:
    broken = valkey_only.data_dir / "valkey" / "appendonlydir"
    broken.parent.mkdir(parents=True)
    broken.write_text("not a folder")

    with pytest.raises(EmbeddedServerError, match=r"valkey did not start\. The end of .*server\.log"):
        EmbeddedServers.start(valkey_only)


def test_no_disk_space_is_a_clear_error(valkey_only: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.embedded.process.MIN_FREE_BYTES", 2**60)

    with pytest.raises(EmbeddedServerError, match=r"No disk space for valkey: \d+ MiB are free under"):
        EmbeddedServers.start(valkey_only)


def test_an_unusable_data_dir_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(EmbeddedServerError, match="set another WANSERVE_DATA_DIR"):
        Valkey(tmp_path / "file").start()


def test_free_ports_are_different_and_free() -> None:
    ports = free_ports(["a", "b", "c"])

    assert len(set(ports.values())) == 3
    for port in ports.values():
        socket.create_server(("127.0.0.1", port)).close()
