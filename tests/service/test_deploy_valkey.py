"""deploy/valkey/valkey.conf, started as it stands: what the service promises needs these settings."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from service.embedded.valkey import CONFIG, valkey_binary
from service.jobs.connection import connect
from service.jobs.queue import JobQueue
from service.settings import Settings
from tests.service.claims import MakeSubmission, claim, completed

CONF = Path(__file__).parents[2] / "deploy/valkey/valkey.conf"
PASSWORD = "of-the-test"


@pytest.fixture
def url(tmp_path: Path, free_port: Callable[[], int], wait_until: Callable[..., None]) -> Iterator[str]:
    port = free_port()
    command = [valkey_binary(), CONF, "--dir", tmp_path, "--port", str(port), "--requirepass", PASSWORD]
    with (
        subprocess.Popen([*command, "--bind", "127.0.0.1"], stdout=subprocess.DEVNULL) as server,
        Redis(port=port, password=PASSWORD) as redis,
    ):
        wait_until(lambda: answers(redis), seconds=20)
        yield f"redis://:{PASSWORD}@127.0.0.1:{port}/0"
        server.terminate()


def answers(redis: Redis) -> bool:
    try:
        return bool(redis.ping())
    except RedisError:
        return False


def test_nothing_that_was_acknowledged_is_lost_or_evicted(url: str) -> None:
    wanted = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "save": ""}
    with Redis.from_url(url, decode_responses=True) as redis:
        assert {name: redis.config_get(name)[name] for name in wanted} == wanted
        assert int(redis.config_get("maxmemory")["maxmemory"]) > 0


def test_a_job_runs_on_it(url: str, settings: Settings, submission: MakeSubmission) -> None:
    with connect(url) as redis:
        queue = JobQueue(redis, settings)
        video = queue.submit(submission("ball")).record
        claimed = claim(queue)
        assert queue.finish(claimed.lease, completed(claimed)) == "committed"
        assert queue.depth() == 0
        assert video.queue_position == 0


def test_the_embedded_server_is_as_durable() -> None:
    durable = ("appendonly ", "appendfsync ", "save ", "maxmemory-policy ")
    lines = [line for line in CONF.read_text().splitlines() if line.startswith(durable)]
    assert len(lines) == len(durable)
    assert set(lines) <= set(CONFIG.splitlines())
