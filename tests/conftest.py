"""Fixtures that every test may use: a real Valkey, a real SeaweedFS, settings that name them, a model card.

The servers start once a session, on free ports, in a folder of their own. Every test gets an empty Redis and a
bucket of its own.
"""

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from redis import Redis

from service.embedded import EmbeddedServers
from service.jobs.card import Cost, DefaultRange, Defaults, Limits, Measured, ModelCard, Quality, Range
from service.jobs.connection import connect
from service.jobs.garbage import Garbage
from service.jobs.queue import JobQueue
from service.jobs.request import parse, resolve
from service.jobs.store import VideoStore
from service.jobs.submission import Submission
from service.settings import Settings
from service.storage import Storage, open_storage
from service.sweeper import Sweeper

os.environ.setdefault("HF_HUB_OFFLINE", "1")

UP_ADDRESS = "UP_ADDRESS"
FINGERPRINT = "f" * 64
"""Of the checkpoint that card describes."""


def pytest_configure(config: pytest.Config) -> None:
    """Tests must not see the settings of whoever runs them."""
    for name in list(os.environ):
        if name.startswith(("WANSERVE_", "S3_")) or name in ("REDIS_URL", "CDN_BASE_URL"):
            del os.environ[name]


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServers]:
    """One Valkey and one SeaweedFS for the whole session."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("servers"))
    with EmbeddedServers.start(settings) as started:
        yield started


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """free_port() is a port on 127.0.0.1 that nobody uses now."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return find


@pytest.fixture(scope="session")
def up_settings(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Settings:
    # Progress is told at the heartbeat's pace if that is below a second: a fast machine makes a video in one.
    return Settings(
        data_dir=tmp_path_factory.mktemp("up") / "data",
        port=free_port(),
        heartbeat_seconds=0.1,
        preview_seconds=0.1,
        worker_metrics_port=free_port(),
    )


@pytest.fixture(scope="session")
def up_address(up_settings: Settings) -> Iterator[str]:
    """The address of a whole `wanserve up`: its own servers, a gateway and a worker with the embedded checkpoint."""
    if UP_ADDRESS in os.environ:
        # Of the tests that started these.
        yield os.environ[UP_ADDRESS]
        return
    settings = up_settings
    log = settings.data_dir.with_name("up.log")
    environment = settings.child_environment() | {"OMP_NUM_THREADS": "1"}
    with log.open("wb") as output:
        command = [sys.executable, "-m", "service.cli", "up"]
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        address = f"http://127.0.0.1:{settings.port}"
        deadline = time.monotonic() + 300
        while not is_healthy(address):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=60)


def is_healthy(address: str) -> bool:
    """Whether a gateway there would serve a request now."""
    try:
        return httpx.get(f"{address}/health", timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture
def settings(servers: EmbeddedServers, tmp_path: Path) -> Settings:
    """Settings of the real servers, a bucket and a data_dir of this test alone, short leases."""
    return servers.settings.with_changes(
        data_dir=tmp_path / "data",
        s3_bucket=f"test-{uuid.uuid4().hex[:20]}",
        lease_seconds=2.0,
        heartbeat_seconds=0.5,
    )


@pytest.fixture
def redis(servers: EmbeddedServers) -> Iterator[Redis]:
    """An empty Redis. The server is the session's own, so that emptying it harms nobody."""
    assert servers.settings.redis_url is not None
    with connect(servers.settings.redis_url) as client:
        client.flushall()
        yield client


@pytest.fixture
def limit_memory(redis: Redis) -> Iterator[Callable[[int], None]]:
    """limit_memory(num_bytes) sets Redis' maxmemory until the test ends."""
    before = redis.config_get("maxmemory")["maxmemory"]

    def limit(num_bytes: int) -> None:
        redis.config_set("maxmemory", num_bytes)

    yield limit
    redis.config_set("maxmemory", before)


@pytest.fixture
def queue(redis: Redis, settings: Settings) -> JobQueue:
    return JobQueue(redis, settings)


@pytest.fixture
def store(redis: Redis) -> VideoStore:
    return VideoStore(redis)


@pytest.fixture
def garbage(redis: Redis) -> Garbage:
    return Garbage(redis)


@pytest.fixture
def storage(settings: Settings) -> Iterator[Storage]:
    """The test's own bucket, empty."""
    opened = open_storage(settings)
    opened.ensure_bucket()
    yield opened
    opened.close()


@pytest.fixture
def sweeper(garbage: Garbage, storage: Storage) -> Sweeper:
    return Sweeper(garbage, storage)


@pytest.fixture
def card() -> ModelCard:
    """A card shaped like the embedded checkpoint's."""
    return ModelCard(
        id="wan2.2-t2v-embedded",
        aliases=("embedded",),
        fingerprint=FINGERPRINT,
        native_sizes=((64, 64), (96, 64), (64, 96)),
        delivery_short_side=256,
        num_frames=DefaultRange(min=1, max=17, default=17),
        fps=DefaultRange(min=1, max=30, default=8),
        defaults=Defaults(
            num_inference_steps=20,
            guidance_scale=4.0,
            guidance_scale_2=4.0,
            flow_shift=3.0,
            negative_prompt="",
        ),
        limits=Limits(
            num_inference_steps=Range(min=1, max=100),
            guidance_scale=Range(min=0, max=20),
            flow_shift=Range(min=0.1, max=100),
            prompt_characters=4000,
        ),
        quality={"draft": Quality(num_inference_steps=10, guidance_scale=4.0, guidance_scale_2=4.0)},
        cost=Cost(
            forward_flop=1e6,
            forward_flop_per_token=1e5,
            forward_flop_per_token_pair=10.0,
            decode_flop_first_frame_per_site=1e6,
            decode_flop_per_site=4e6,
            decode_flop_per_site_pair=10.0,
            text_flop=1e6,
            token_pixels=16,
            site_pixels=8,
            frame_stride=4,
        ),
        size_stride=16,
        frame_stride=4,
        measured=Measured(seconds_per_step=0.1, seconds_per_clip=3.0, device="cpu", dtype="float32"),
    )


@pytest.fixture
def submission(card: ModelCard) -> Callable[..., Submission]:
    """submission("a prompt", seed=3) makes a Submission as the gateway would."""

    def make(prompt: str = "a red ball", **fields: object) -> Submission:
        resolved = resolve(parse({"prompt": prompt, **fields}), card)
        return Submission(request=resolved.request, fingerprint=card.fingerprint)

    return make


@pytest.fixture
def wait_until() -> Callable[..., None]:
    """wait_until(condition) returns as soon as it holds, and fails after a generous time."""

    def wait(condition: Callable[[], object], *, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not so within {seconds:g} s"
            time.sleep(0.02)

    return wait
