"""A real gateway in a thread, on the session's Redis and object store. A worker's part is played through the queue."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import uvicorn
from redis import Redis

from service.api.app import create_app
from service.api.server import GatewayServer
from service.embedded import EmbeddedServers
from service.jobs.card import ModelCard
from service.jobs.connection import connect
from service.jobs.execution import Claim, Finding, Outcome
from service.jobs.queue import JobQueue
from service.jobs.record import Asset, AssetFile, WorkerInfo, new_execution_id, object_key
from service.jobs.store import VideoStore
from service.listen import listen
from service.settings import Settings
from service.storage import Storage, open_storage
from tests.conftest import FINGERPRINT

START_SECONDS = 60.0


@contextmanager
def serving(settings: Settings) -> Iterator[GatewayServer]:
    """A gateway on settings.host and port until the block ends."""
    app = create_app(settings)
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=2)
    server = GatewayServer(config, app.state.fanout)
    with listen(settings) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            deadline = time.monotonic() + START_SECONDS
            while not server.started:
                assert thread.is_alive(), "the gateway did not start"
                assert time.monotonic() < deadline, "the gateway did not start in time"
                time.sleep(0.01)
            yield server
        finally:
            server.handle_exit(15, None)
            thread.join()


@pytest.fixture(scope="session")
def gateway_settings(
    servers: EmbeddedServers, tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]
) -> Settings:
    return servers.settings.with_changes(
        # A database of its own: this gateway's chores go on beside the tests that come after these.
        redis_url=f"{str(servers.settings.redis_url).removesuffix('/0')}/7",
        data_dir=tmp_path_factory.mktemp("gateway"),
        port=free_port(),
        s3_bucket="gateway-tests",
        lease_seconds=30.0,
        heartbeat_seconds=5.0,
        webhook_allowed_networks="127.0.0.0/8",
        webhook_allowed_ports="80,443,1024-65535",
        webhook_timeout_seconds=1.0,
    )


@pytest.fixture
def redis(gateway_settings: Settings) -> Iterator[Redis]:
    """The gateway's, empty."""
    with connect(str(gateway_settings.redis_url)) as client:
        client.flushall()
        yield client


@pytest.fixture(scope="session")
def address(gateway_settings: Settings) -> Iterator[str]:
    """Where the session's gateway listens."""
    with serving(gateway_settings):
        yield f"http://127.0.0.1:{gateway_settings.port}"


@pytest.fixture
def bare_client(address: str, redis: Redis) -> Iterator[httpx.Client]:
    """A client of a gateway that has never seen a worker."""
    with httpx.Client(base_url=address, timeout=30, trust_env=False) as client:
        yield client


@pytest.fixture
def client(bare_client: httpx.Client, store: VideoStore, card: ModelCard) -> httpx.Client:
    """A client of a gateway that knows a model."""
    store.register_card(card)
    return bare_client


@dataclass(frozen=True, slots=True)
class FakeWorker:
    """Does what a worker does to queue, store and storage, without an engine."""

    store: VideoStore
    queue: JobQueue
    storage: Storage
    folder: Path

    def report_alive(self, model: str) -> None:
        info = WorkerInfo(name="w", model=model, device="cpu", started_at=0.0, host="h", pid=1)
        self.store.report_alive(info, ttl_seconds=60)

    def claim(self) -> Claim:
        claim = self.claim_if_any()
        assert claim is not None
        return claim

    def claim_if_any(self) -> Claim | None:
        return self.queue.claim(worker="w", fingerprint=FINGERPRINT, execution_id=new_execution_id())

    def finish(self, content: bytes = b"0123456789") -> str:
        """Complete the next job with a file of that content; the video file's key."""
        return self.complete(self.claim(), content)

    def complete(
        self,
        claim: Claim,
        content: bytes = b"0123456789",
        *,
        finding: Finding | None = None,
        packets_sha256: str | None = None,
        watermark_id: int | None = None,
    ) -> str:
        """The video file's key."""
        asset_id, execution_id = claim.payload.asset_id, claim.lease.execution_id
        video = self._upload(object_key(asset_id, execution_id, "video.mp4"), content, "video/mp4")
        thumbnail = self._upload(object_key(asset_id, execution_id, "thumbnail.webp"), b"picture", "image/webp")
        asset = Asset(
            id=asset_id,
            video=video,
            thumbnail=thumbnail,
            width=256,
            height=256,
            num_frames=17,
            fps=8,
            packets_sha256=packets_sha256,
            watermark_id=watermark_id,
        )
        outcome = Outcome.completed(asset, stage_durations={"denoise": 1.5}, inference_time_seconds=1.5, worker="w")
        self.queue.finish(claim.lease, outcome, finding=finding)
        return video.key

    def fail(self, code: str, message: str) -> None:
        self.queue.finish(self.claim().lease, Outcome.failed(code, message))

    def _upload(self, key: str, content: bytes, content_type: str) -> AssetFile:
        file = self.folder / "upload"
        file.write_bytes(content)
        self.storage.put_file(key, file, content_type=content_type)
        digest = hashlib.sha256(content).hexdigest()
        return AssetFile(key=key, content_type=content_type, size_bytes=len(content), sha256=digest)


@pytest.fixture(scope="session")
def gateway_storage(gateway_settings: Settings) -> Iterator[Storage]:
    storage = open_storage(gateway_settings)
    storage.ensure_bucket()
    yield storage
    storage.close()


@pytest.fixture
def worker(
    redis: Redis, gateway_settings: Settings, store: VideoStore, gateway_storage: Storage, tmp_path: Path
) -> FakeWorker:
    return FakeWorker(store, JobQueue(redis, gateway_settings), gateway_storage, tmp_path)
