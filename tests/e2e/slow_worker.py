"""A worker whose denoising steps take at least so many seconds, as on a big checkpoint: slow_worker.py SECONDS."""

import argparse
import sys
import time

from model.engine import Engine
from model.request import Request
from worker.cli import run_worker_command

quick_step = Engine.step


def slow_step(engine: Engine, request: Request) -> None:
    # Warming up and the speed probe stay quick.
    if request.params.num_inference_steps > 4:
        time.sleep(float(sys.argv[1]))
    quick_step(engine, request)


Engine.step = slow_step  # type: ignore[method-assign]
sys.exit(run_worker_command(argparse.Namespace()))
