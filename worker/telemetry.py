"""The engine's and its device's numbers, for Prometheus."""

from importlib.util import find_spec

import torch

from model.engine import Engine
from model.stepper import BatchDone
from service.metrics import WorkerMetrics, size_bucket


def watch_engine(engine: Engine, metrics: WorkerMetrics) -> None:
    """From now on: call it after the warm-up."""

    def observe(batch: BatchDone) -> None:
        clip = batch.params
        metrics.observe_batch(
            expert=batch.expert,
            num_rows=batch.num_rows,
            size=size_bucket(clip.width, clip.height, clip.num_frames),
            seconds=batch.seconds,
            swap_seconds=batch.swap_seconds,
        )

    engine.watch(observe)
    if engine.device.type == "cuda":
        _watch_gpu(engine.device, metrics)


def _watch_gpu(device: torch.device, metrics: WorkerMetrics) -> None:
    def memory() -> tuple[int, int]:
        free, total = torch.cuda.mem_get_info(device)
        return total - free, total

    def busy() -> float:
        return torch.cuda.utilization(device) / 100

    # torch asks the driver through it.
    metrics.watch_device(memory, busy if find_spec("pynvml") else None)
