"""How much does the service add to the model? POST to completed, against the stock WanPipeline's own time.

Both make the same clip of the embedded checkpoint, in turns, on the same machine: `python bench/path.py`.
"""

import contextlib
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
from diffusers import WanPipeline

from bench.report import Figure, report
from bench.running import address, is_healthy, running, wait_until
from bench.stock import load_stock, run_stock
from model.describe import read_card
from model.folder import open_folder
from model.params import GenerationParams
from service.embedded.process import free_ports
from service.settings import Settings

GOAL = 1.8
ROUNDS = int(os.environ.get("ROUNDS", "9"))
PROMPT = "a red circle moves to the left on a white background"
STEPS, NUM_FRAMES = 20, 17
POLL_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Served:
    """One video through the service."""

    seconds: float
    stages: dict[str, float]


def main() -> int:
    # Ended from outside, it still ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    stock = load_stock()
    clip = replace(read_card(open_folder("embedded")).default_params(PROMPT), num_inference_steps=STEPS)
    with service() as client:
        # The first of each pays for lazy initialisation.
        time_stock(stock, clip)
        run_service(client, seed=0)
        stock_seconds, served = [], []
        for seed in range(1, ROUNDS + 1):
            stock_seconds.append(time_stock(stock, replace(clip, seed=seed)))
            served.append(run_service(client, seed=seed))
    return report(figures(stock_seconds, served))


def figures(stock_seconds: list[float], served: list[Served]) -> Iterator[Figure]:
    """Medians, and of the ratios of neighbours, so that a slow minute of the machine hits both."""
    ratios = [video.seconds / seconds for video, seconds in zip(served, stock_seconds, strict=True)]
    yield Figure("stock WanPipeline", statistics.median(stock_seconds), "s")
    yield Figure("POST to completed", statistics.median(video.seconds for video in served), "s")
    yield Figure("POST to completed / stock WanPipeline", statistics.median(ratios), goal=GOAL)
    for stage in served[0].stages:
        seconds = statistics.median(video.stages[stage] for video in served)
        yield Figure(f"  stage {stage}", seconds, "s")


def time_stock(pipeline: WanPipeline, clip: GenerationParams) -> float:
    """Seconds from the prompt to decoded frames."""
    started = time.perf_counter()
    run_stock(pipeline, clip)
    return time.perf_counter() - started


def run_service(client: httpx.Client, *, seed: int) -> Served:
    """Seconds from POST until the video is seen completed."""
    request = {"prompt": PROMPT, "num_inference_steps": STEPS, "num_frames": NUM_FRAMES, "seed": seed}
    started = time.perf_counter()
    video = client.post("/v1/videos", json=request).raise_for_status().json()
    while video["status"] not in ("completed", "failed"):
        time.sleep(POLL_SECONDS)
        video = client.get(f"/v1/videos/{video['id']}").raise_for_status().json()
    seconds = time.perf_counter() - started
    if video["status"] == "failed":
        raise SystemExit(f"The service failed: {video['error']}")
    return Served(seconds, video["stage_durations"])


@contextlib.contextmanager
def service() -> Iterator[httpx.Client]:
    """`wanserve up` with a warm worker, in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="wanserve-bench-") as folder:
        settings = Settings(data_dir=Path(folder), port=free_ports(["gateway"])["gateway"], log_level="warning")
        with running(settings), httpx.Client(base_url=address(settings), timeout=30, trust_env=False) as client:
            wait_until(lambda: is_healthy(client))
            yield client


if __name__ == "__main__":
    sys.exit(main())
