"""One claimed job through the engine."""

import time
from collections.abc import Callable

from model.engine import Engine
from model.engine import Progress as EngineProgress
from model.frames import Frames
from model.params import GenerationParams
from service.jobs.record import Progress, Signal, VideoRequest
from service.metrics import WorkerMetrics
from worker.held import HeldJob
from worker.shutdown import Shutdown

PERCENT_DECODED = 95
"""Encoding and upload are the rest."""

FINISHING_SECONDS = 1.5
"""Kept free for encoding and upload when a shutdown asks whether a job can still be completed."""


def generate(
    engine: Engine,
    held: HeldJob,
    *,
    shutdown: Shutdown,
    metrics: WorkerMetrics,
    clock: Callable[[], float] = time.monotonic,
) -> Frames:
    """The job's frames at native size.

    Raises Cancelled between two steps when nobody wants the job (held.signal says why) or when a shutdown
    leaves too little time; and InvalidParams, OutOfMemory, NotFinite.
    """
    started = clock()
    latest = _start(held)

    def report(progress: EngineProgress) -> None:
        nonlocal latest
        metrics.steps.inc(progress.completed_steps - latest.completed_steps)
        latest = progress
        held.advance(_wire(progress))

    def should_cancel() -> bool:
        if held.signal is not Signal.OK:
            return True
        seconds = _remaining_seconds(latest.fraction, elapsed=clock() - started)
        return seconds + FINISHING_SECONDS > shutdown.seconds_left

    return engine.generate(params_of(held.claim.payload.request), on_progress=report, should_cancel=should_cancel)


def params_of(request: VideoRequest) -> GenerationParams:
    return GenerationParams(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        width=request.width,
        height=request.height,
        num_frames=request.num_frames,
        fps=request.fps,
        num_inference_steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale,
        guidance_scale_2=request.guidance_scale_2,
        flow_shift=request.flow_shift,
        seed=request.seed,
    )


def _start(held: HeldJob) -> EngineProgress:
    request = held.claim.payload.request
    return EngineProgress(
        completed_steps=0,
        num_inference_steps=request.num_inference_steps,
        completed_frames=0,
        num_frames=request.num_frames,
    )


def _wire(progress: EngineProgress) -> Progress:
    is_denoised = progress.completed_steps == progress.num_inference_steps
    return Progress(
        stage="decode" if is_denoised else "denoise",
        step=progress.completed_steps,
        num_steps=progress.num_inference_steps,
        percent=int(progress.fraction * PERCENT_DECODED),
    )


def _remaining_seconds(fraction: float, *, elapsed: float) -> float:
    """By the pace so far; with nothing done yet it can take any time."""
    return elapsed * (1 - fraction) / fraction if fraction > 0 else float("inf")
