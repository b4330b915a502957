"""Redis goes away in the middle of a job and comes back with what it had on disk."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from service.embedded import EmbeddedServers
from service.jobs.connection import connect
from service.jobs.record import State
from service.jobs.store import VideoStore
from service.settings import Settings
from tests.e2e.conftest import Workers

Submit = Callable[..., str]
WaitUntil = Callable[..., None]
Events = Callable[[], list[tuple[str, str]]]


@pytest.fixture
def own_redis(servers: EmbeddedServers, tmp_path: Path) -> Iterator[EmbeddedServers]:
    """A Valkey of this test alone, which may kill it."""
    settings = servers.settings.with_changes(data_dir=tmp_path / "own", redis_url=None)
    with EmbeddedServers.start(settings) as own:
        yield own


@pytest.fixture
def settings(settings: Settings, own_redis: EmbeddedServers) -> Settings:
    return settings.with_changes(redis_url=own_redis.settings.redis_url)


@pytest.fixture
def redis(own_redis: EmbeddedServers) -> Iterator[Redis]:
    assert own_redis.settings.redis_url is not None
    with connect(own_redis.settings.redis_url) as client:
        yield client


def test_job_goes_on_through_a_restart_of_redis_and_runs_once(
    own_redis: EmbeddedServers,
    redis: Redis,
    workers: Workers,
    submit: Submit,
    store: VideoStore,
    wait_until: WaitUntil,
    events: Events,
) -> None:
    workers.start(step_seconds=0.2)
    video_id = submit("a red circle", num_inference_steps=40, num_frames=5)
    wait_until(lambda: store.get(video_id).step > 0)
    [server] = own_redis._servers
    assert server._process is not None
    server._process.send_signal(signal.SIGKILL)
    server._process.wait()
    assert own_redis.revive() == ["valkey"]
    wait_until(lambda: store.get(video_id).is_terminal)
    record = store.get(video_id)
    assert (record.state, record.attempt) == (State.COMPLETED, 1), workers.logs()
    assert events() == [(video_id, "video.completed")]
