"""A worker as a forked child that keeps a journal: the same process as `python -m worker` but for the notes."""

import argparse
import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import worker.process  # noqa: F401  imported once, in the process that forks
from model.engine import Engine
from model.errors import EngineError
from model.request import Request
from service.embedded.process import process_start
from service.jobs.execution import Lease, Outcome, Signal, Verdict
from service.jobs.queue import JobQueue
from tests.chaos.journal import Deed, Journal
from worker.cli import run_worker_command
from worker.generate import Generation

LOOK_SECONDS = 1.0


def run(owner_pid: int, environment: dict[str, str], folder: Path, step_seconds: float) -> None:
    """Ends with the process owner_pid, however that ends. folder: for log and journal.

    With step_seconds a denoising step takes at least so long.
    """
    threading.Thread(target=_end_with, args=(owner_pid, process_start(owner_pid)), daemon=True).start()
    os.environ.clear()
    os.environ.update(environment)
    with (folder / f"{os.getpid()}.log").open("wb") as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
    torch.set_num_threads(1)
    journal = Journal(folder)
    _note_steps(journal)
    _note_answers(journal)
    if step_seconds:
        _slow_down(step_seconds)
    sys.exit(run_worker_command(argparse.Namespace()))


def _end_with(owner_pid: int, started: str | None) -> None:
    # The parent is no help: a fork server lives as long as one of its children does.
    while process_start(owner_pid) == started:
        time.sleep(LOOK_SECONDS)
    os._exit(1)


def _note_steps(journal: Journal) -> None:
    admit, report_step = Generation.admit, Generation.report_step

    def note(deed: Deed, generation: Generation) -> None:
        lease = generation.held.claim.lease
        journal.note(deed, lease.job_id, lease.execution_id, generation.admitted.step)

    def admit_and_note(generation: Generation, engine: Engine) -> None:
        admit(generation, engine)
        note(Deed.ADMITTED, generation)

    def report_and_note(generation: Generation) -> None:
        note(Deed.STEPPED, generation)
        report_step(generation)

    Generation.admit = admit_and_note  # type: ignore[method-assign]
    Generation.report_step = report_and_note  # type: ignore[method-assign]


def _note_answers(journal: Journal) -> None:
    checkpoint, finish = JobQueue.checkpoint, JobQueue.finish

    def checkpoint_and_note(queue: JobQueue, lease: Lease, key: str, *, step: int) -> Signal:
        signal = checkpoint(queue, lease, key, step=step)
        if signal is Signal.OK:
            journal.note(Deed.SAVED, lease.job_id, lease.execution_id, step)
        return signal

    def finish_and_note(queue: JobQueue, lease: Lease, outcome: Outcome, **more: Any) -> Verdict:
        verdict = finish(queue, lease, outcome, **more)
        if verdict is not Verdict.LOST:
            journal.note(Deed.COMMITTED, lease.job_id, lease.execution_id, 0)
        return verdict

    JobQueue.checkpoint = checkpoint_and_note  # type: ignore[method-assign]
    JobQueue.finish = finish_and_note  # type: ignore[method-assign]


def _slow_down(step_seconds: float) -> None:
    quick_step = Engine.step

    def slow_step(engine: Engine, requests: Sequence[Request]) -> dict[Request, EngineError]:
        # Warming up and the speed probe stay quick.
        if any(request.params.num_inference_steps > 3 for request in requests):
            time.sleep(step_seconds)
        return quick_step(engine, requests)

    Engine.step = slow_step  # type: ignore[method-assign]
