"""How long an idle worker takes from POST to the end of its first step, as its own metrics tell."""

import os
import time
from contextlib import ExitStack
from pathlib import Path

import httpx

from bench.running import address, is_healthy, running, wait_until
from service.embedded.process import free_ports
from service.settings import Settings

ROUNDS = int(os.environ.get("ROUNDS", "9"))
LOOK_SECONDS = 0.002
STEPS = "wanserve_denoising_steps_total "


def first_step_seconds(folder: Path) -> list[float]:
    """One a round, through `wanserve up`."""
    ports = free_ports(["gateway", "metrics"])
    settings = Settings(
        data_dir=folder, port=ports["gateway"], worker_metrics_port=ports["metrics"], log_level="warning"
    )
    with ExitStack() as opened:
        opened.enter_context(running(settings))
        gateway = opened.enter_context(httpx.Client(base_url=address(settings), timeout=30, trust_env=False))
        metrics_url = f"http://{settings.host}:{settings.worker_metrics_port}"
        metrics = opened.enter_context(httpx.Client(base_url=metrics_url, timeout=30, trust_env=False))
        wait_until(lambda: is_healthy(gateway))
        return [_first_step(gateway, metrics, seed=seed) for seed in range(ROUNDS + 1)][1:]


def _first_step(gateway: httpx.Client, metrics: httpx.Client, *, seed: int) -> float:
    before = _steps(metrics)
    request = {"prompt": "a red circle", "num_frames": 5, "num_inference_steps": 4, "seed": seed}
    started = time.perf_counter()
    video = gateway.post("/v1/videos", json=request).raise_for_status().json()
    while _steps(metrics) == before:
        time.sleep(LOOK_SECONDS)
    seconds = time.perf_counter() - started
    # The next one finds an idle worker again.
    wait_until(lambda: gateway.get(f"/v1/videos/{video['id']}").json()["status"] == "completed")
    return seconds


def _steps(metrics: httpx.Client) -> float:
    lines = metrics.get("/metrics").raise_for_status().text.splitlines()
    return next(float(line.removeprefix(STEPS)) for line in lines if line.startswith(STEPS))
