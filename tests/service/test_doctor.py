"""`wanserve doctor` on servers that are well, and on each that is ill in one way."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from redis import Redis

from service.checkup import Finding, Health
from service.doctor import examine
from service.settings import Settings
from tests.service.provenance.certificates import make_files
from worker.doctor import CHECKS


def finding(settings: Settings, name: str) -> Finding:
    [found] = [each for each in examine(settings) if each.name == name]
    return found


@pytest.fixture
def changed(redis: Redis) -> Iterator[Redis]:
    """A server whose configuration is put back afterwards."""
    names = ("appendonly", "appendfsync", "maxmemory-policy")
    before = {name: redis.config_get(name)[name] for name in names}
    yield redis
    for name, value in before.items():
        redis.config_set(name, value)


def test_everything_is_well_with_the_embedded_servers(settings: Settings) -> None:
    found = {each.name: each for each in examine(settings)}

    for name in ("redis", "storage", "clock", "disk", "secrets"):
        assert found[name].health is Health.OK, found[name]
    assert found["certificate"].health is Health.WARN
    assert "development" in found["certificate"].seen
    assert all(each.fix for each in found.values() if each.health in (Health.WARN, Health.FAIL))


@pytest.mark.parametrize(
    ("name", "value", "health"),
    [
        ("appendfsync", "everysec", Health.WARN),
        ("appendonly", "no", Health.FAIL),
        ("maxmemory-policy", "allkeys-lru", Health.FAIL),
    ],
)
def test_a_redis_that_would_lose_jobs_is_told(
    settings: Settings, changed: Redis, name: str, value: str, health: Health
) -> None:
    changed.config_set(name, value)

    found = finding(settings, "redis")

    assert found.health is health
    assert f"{name} {value}" in found.seen


def test_servers_that_do_not_answer_fail_with_what_to_do(settings: Settings) -> None:
    away = settings.with_changes(redis_url="redis://127.0.0.1:1/0", s3_endpoint="http://127.0.0.1:1")

    found = {each.name: each.health for each in examine(away)}

    assert (found["redis"], found["storage"], found["clock"]) == (Health.FAIL,) * 3


def test_a_clock_that_is_off_is_told(settings: Settings) -> None:
    late = (datetime.now(UTC) - timedelta(minutes=20)).strftime("%a, %d %b %Y %H:%M:%S GMT")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(200)
            self.send_header("Date", late)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Quiet."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            endpoint = f"http://127.0.0.1:{server.server_port}"
            found = finding(settings.with_changes(s3_endpoint=endpoint), "clock")
        finally:
            server.shutdown()
            thread.join()
    assert found.health is Health.FAIL
    assert found.seen.startswith("120")


def test_secrets_that_machines_must_share_are_asked_for_where_keys_are(settings: Settings) -> None:
    found = finding(settings.with_changes(require_keys=True), "secrets")
    assert found.health is Health.WARN
    assert "WANSERVE_KEY_PEPPER" in found.seen


def test_a_certificate_that_can_not_sign_fails(settings: Settings, tmp_path: Path) -> None:
    ended = datetime.now(UTC) - timedelta(days=1)
    files = make_files(tmp_path, begins=ended - timedelta(days=30), ends=ended)
    found = finding(settings.with_changes(c2pa_certificate=files.chain, c2pa_key=files.key), "certificate")
    assert found.health is Health.FAIL
    assert "renew it" in found.seen


def test_a_worker_has_what_it_needs_here(settings: Settings) -> None:
    found = {name: check(settings) for name, check in CHECKS}
    assert {name: each.health for name, each in found.items()} == dict.fromkeys(found, Health.OK)
    assert set(found) == {"device", "checkpoint", "codec", "font"}


@pytest.mark.parametrize(
    ("changes", "name"),
    [({"checkpoint": "/nowhere"}, "checkpoint"), ({"device": "cuda:7"}, "device")],
)
def test_what_a_worker_lacks_is_told(settings: Settings, changes: dict[str, object], name: str) -> None:
    found = dict(CHECKS)[name](settings.with_changes(**changes))
    assert found.health is Health.FAIL
    assert found.fix


def test_the_command_ends_with_1_where_something_fails(settings: Settings) -> None:
    command = [sys.executable, "-m", "service.cli", "doctor", "--json"]
    for url, code in ((settings.redis_url, 0), ("redis://127.0.0.1:1/0", 1)):
        environment = os.environ | settings.with_changes(redis_url=url).to_environment()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == code, done.stdout + done.stderr
        told = [json.loads(line) for line in done.stdout.splitlines()]
        assert told[0] == {"name": "settings", "health": "ok", "seen": "all legal", "fix": ""}
        # Those of the worker's package too.
        assert {"redis", "storage", "certificate", "device", "checkpoint", "codec", "font"} <= {
            each["name"] for each in told
        }
