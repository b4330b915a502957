"""Requests a second through the gateway, and through bare handlers on the same server, in turns."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from redis import Redis

from bench.embedded_card import embedded_card
from bench.load import message, requests_per_second
from bench.running import address, wait_until
from service.embedded import EmbeddedServers
from service.embedded.process import free_ports
from service.jobs.connection import connect
from service.jobs.execution import Outcome
from service.jobs.queue import JobQueue
from service.jobs.record import Asset, AssetFile, new_execution_id
from service.jobs.store import VideoStore
from service.settings import Settings

ROUNDS = int(os.environ.get("ROUNDS", "25"))
NUM_REQUESTS = 100
"""In one turn of one kind."""

PROMPT = (
    "A red ball bounces over a blue background while the camera stays where it is; soft light from the left, clean "
    "edges, no shadow, calm colours, the ball leaves the picture on the right side after two jumps, take {}"
)
NUM_PROMPTS = 20
"""That were seen before."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests a second, of one round."""

    bare_set: float
    warm_post: float
    cold_post: float
    bare_get: float
    waiting_get: float
    completed_get: float


def measure_traffic(folder: Path) -> list[Traffic]:
    settings = Settings(data_dir=folder, max_queue_depth=10**9, log_level="warning")
    with ExitStack() as opened:
        servers = opened.enter_context(EmbeddedServers.start(settings))
        redis_url = servers.settings.redis_url
        assert redis_url is not None
        redis = opened.enter_context(connect(redis_url))
        VideoStore(redis).register_card(embedded_card())
        ports = free_ports(["gateway", "bare"])
        gateway = servers.settings.with_changes(port=ports["gateway"])
        bare = servers.settings.with_changes(port=ports["bare"])
        opened.enter_context(serving("service.api", gateway, path="/liveness"))
        opened.enter_context(serving("bench.bare", bare, path="/"))
        rounds = _Rounds(gateway, bare, redis)
        rounds.measure()  # the first of each pays for lazy initialisation
        return [rounds.measure() for _ in range(ROUNDS)]


class _Rounds:
    def __init__(self, gateway: Settings, bare: Settings, redis: Redis) -> None:
        self._gateway_port, self._bare_port = gateway.port, bare.port
        self._completed = _completed_video(gateway, redis)
        self._waiting = post_video(gateway, seed=2)
        self._bare_key = _post(address(bare), _body(0, seed=1))

    def measure(self) -> Traffic:
        return Traffic(
            bare_set=self._bare([_post_message("/", _body(n % NUM_PROMPTS)) for n in range(NUM_REQUESTS)]),
            warm_post=self._gateway([_post_message("/v1/videos", _body(n % NUM_PROMPTS)) for n in range(NUM_REQUESTS)]),
            cold_post=self._gateway([_post_message("/v1/videos", _body(uuid.uuid4())) for _ in range(NUM_REQUESTS)]),
            bare_get=self._bare([message("GET", f"/{self._bare_key}")] * NUM_REQUESTS),
            waiting_get=self._gateway([message("GET", f"/v1/videos/{self._waiting}")] * NUM_REQUESTS),
            completed_get=self._gateway([message("GET", f"/v1/videos/{self._completed}")] * NUM_REQUESTS),
        )

    def _gateway(self, requests: list[bytes]) -> float:
        return requests_per_second(self._gateway_port, requests)

    def _bare(self, requests: list[bytes]) -> float:
        return requests_per_second(self._bare_port, requests)


def _completed_video(gateway: Settings, redis: Redis) -> str:
    video_id = post_video(gateway, seed=1)
    complete_next_video(gateway, redis)
    return video_id


def post_video(gateway: Settings, *, seed: int) -> str:
    """Its id."""
    return _post(f"{address(gateway)}/v1/videos", _body(0, seed=seed))


def complete_next_video(gateway: Settings, redis: Redis) -> None:
    """Made by nobody: the worker's part is played through the queue."""
    queue = JobQueue(redis, gateway)
    claim = queue.claim(worker="bench", fingerprint=embedded_card().fingerprint, execution_id=new_execution_id())
    assert claim is not None
    file = AssetFile(key=f"assets/{claim.payload.asset_id}/video.mp4", content_type="video/mp4", size_bytes=1)
    asset = Asset(id=claim.payload.asset_id, video=file, width=256, height=256, num_frames=17, fps=8)
    stages = dict.fromkeys(("queued", "text", "denoise", "decode", "encode", "upload", "total"), 1.0)
    queue.finish(
        claim.lease, Outcome.completed(asset, stage_durations=stages, inference_time_seconds=1.0, worker="bench")
    )


def _body(take: object, *, seed: int = -1) -> dict[str, object]:
    """seed -1: a job of its own, never answered by another's video."""
    return {"prompt": PROMPT.format(take), "size": "256x256", "num_inference_steps": 20, "seed": seed}


def _post_message(path: str, body: dict[str, object]) -> bytes:
    headers = {"Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4())}
    return message("POST", path, body=json.dumps(body).encode(), headers=headers)


def _post(url: str, body: dict[str, object]) -> str:
    return str(httpx.post(url, json=body, trust_env=False).raise_for_status().json()["id"])


@contextmanager
def serving(module: str, settings: Settings, *, path: str) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m module`, from the moment when it answers."""
    with subprocess.Popen([sys.executable, "-m", module], env=settings.child_environment()) as process:
        try:
            wait_until(lambda: _answers(f"{address(settings)}{path}"))
            yield process
        finally:
            process.terminate()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code < 500
    except httpx.TransportError:
        return False
