"""A worker as a forked child: the same process as `python -m worker`, without the seconds of importing torch."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

import worker.process  # noqa: F401  imported once, in the process that forks
from model.engine import Engine
from model.errors import EngineError
from model.request import Request
from worker.cli import run_worker_command


def run(environment: dict[str, str], log_file: Path, step_seconds: float) -> None:
    """With step_seconds a denoising step takes at least so long, as on a big checkpoint."""
    os.environ.clear()
    os.environ.update(environment)
    with log_file.open("wb") as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
    torch.set_num_threads(1)
    if step_seconds:
        _slow_down(step_seconds)
    sys.exit(run_worker_command(argparse.Namespace()))


def _slow_down(step_seconds: float) -> None:
    quick_step = Engine.step

    def slow_step(engine: Engine, requests: Sequence[Request]) -> dict[Request, EngineError]:
        # Warming up and the speed probe stay quick.
        if any(request.params.num_inference_steps > 4 for request in requests):
            time.sleep(step_seconds)
        return quick_step(engine, requests)

    Engine.step = slow_step  # type: ignore[method-assign]
