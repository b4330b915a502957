"""How a held job ends: completed, failed, cancelled, handed back or dropped, in exactly one of these ways."""

import time
from collections.abc import Callable
from contextlib import suppress

import torch

from model.errors import Cancelled, EngineError
from model.frames import Frames
from service.errors import QueueRefused, Unavailable
from service.jobs.execution import Outcome, Signal, Verdict
from service.logs import get_logger
from service.metrics import WorkerMetrics
from service.tracing import NO_TRACING, Tracing
from worker.finish import DiskFull, Finished, Finisher
from worker.frame_check import FrameCheck, Look
from worker.held import HeldJob
from worker.inbox import Inbox
from worker.memory import peak_memory_mb
from worker.traces import trace_job

log = get_logger(__name__)


class DeviceLost(Exception):
    """The device failed in the middle of a job; nothing more can run in this process."""


class Endings:
    """name: the worker's, as others see it. frame_check: None: nobody looks at frames."""

    def __init__(
        self,
        inbox: Inbox,
        finisher: Finisher,
        *,
        metrics: WorkerMetrics,
        name: str,
        device: torch.device,
        frame_check: FrameCheck | None = None,
        tracing: Tracing = NO_TRACING,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inbox = inbox
        self._finisher = finisher
        self._metrics = metrics
        self._name = name
        self._device = device
        self._frame_check = frame_check
        self._tracing = tracing
        self._clock = clock

    def fail(self, held: HeldJob, error: Exception) -> None:
        """End a job by the error that it met. Raises DeviceLost after handing the job back."""
        try:
            self._end_by(held, error)
        except Unavailable:
            # Redis stayed away until the end of the grace time: the lease runs out and the job runs again.
            log.warning("job_left_to_its_lease", job_id=held.id)
        if isinstance(error, torch.AcceleratorError):
            raise DeviceLost from error

    def complete(self, held: HeldJob, frames: Frames, *, claimed_at: float) -> None:
        """Encode, upload, commit. Raises what Finisher.finish() raises, and Unavailable."""
        look, check_seconds = self._look(held, frames)
        finished = self._finisher.finish(held, frames)
        stages = {
            "queued": held.claim.waited_seconds,
            "text": frames.seconds.text,
            "denoise": frames.seconds.denoise,
            "decode": frames.seconds.decode,
            "encode": finished.encode_seconds,
            "upload": finished.upload_seconds,
            "total": held.claim.waited_seconds + self._clock() - claimed_at,
        }
        if look is not None:
            stages["check"] = check_seconds
        outcome = Outcome.completed(
            finished.asset,
            stage_durations={stage: round(seconds, 4) for stage, seconds in stages.items()},
            inference_time_seconds=round(frames.seconds.total, 4),
            peak_memory_mb=round(peak_memory_mb(self._device), 1),
            worker=self._name,
            prompt_tokens=held.prompt_tokens,
            prompt_tokens_cut=held.prompt_tokens_cut,
            frames_score=None if look is None else look.score,
        )
        try:
            verdict = self._inbox.finish(held, outcome, finding=None if look is None else look.finding)
        except QueueRefused:
            self._remove_uncommitted(held, finished)
            raise
        if verdict in (Verdict.LOST, Verdict.REFUSED):
            self._finisher.remove(finished.asset)
            self._count(held, verdict.value)
            return
        self._metrics.observe_stages(outcome.stage_durations)
        self._metrics.total_seconds.labels(held.claim.payload.priority).observe(outcome.stage_durations["total"])
        ending = "held" if verdict is Verdict.HELD else "completed"
        self._count(held, ending, total_seconds=outcome.stage_durations["total"])

    def _look(self, held: HeldJob, frames: Frames) -> tuple[Look | None, float]:
        """What the frames show, and how long it took to look; None where nobody looks."""
        if self._frame_check is None:
            return None, 0.0
        started = self._clock()
        look = self._frame_check.look(frames.pixels, fps=frames.fps)
        held.touch()
        return look, self._clock() - started

    def _end_by(self, held: HeldJob, error: Exception) -> None:
        match error:
            case Cancelled():
                self._interrupt(held)
            case EngineError():
                self._inbox.finish(held, Outcome.failed(error.code, str(error), worker=self._name))
                self._count(held, "failed", code=error.code)
            case DiskFull():
                # Another worker's disk may have room.
                log.error("disk_full", **held.log_names)
                self._retry(held, f"no disk space on {self._name}")
            case Unavailable():
                raise error
            case _:
                log.error("job_raised", **held.log_names, exc_info=error)
                self._retry(held, f"{type(error).__name__} on {self._name}")

    def _interrupt(self, held: HeldJob) -> None:
        match held.signal:
            case Signal.CANCEL:
                self._inbox.finish(held, Outcome.cancelled(worker=self._name))
                self._count(held, "cancelled")
            case Signal.LOST:
                self._inbox.drop(held)
                self._count(held, "lost")
            case Signal.OK:
                self._inbox.release(held)
                self._count(held, "released")

    def _remove_uncommitted(self, held: HeldJob, finished: Finished) -> None:
        """An outcome that stays unknown keeps its files: a record may name them."""
        with suppress(Unavailable):
            if not self._inbox.has_ended(held):
                self._finisher.remove(finished.asset)

    def _retry(self, held: HeldJob, reason: str) -> None:
        self._inbox.retry(held, reason)
        self._count(held, "retried")

    def _count(self, held: HeldJob, outcome: str, **fields: object) -> None:
        self._metrics.finished.labels(outcome).inc()
        trace_job(self._tracing, held, worker=self._name, outcome=outcome, at=time.time())
        log.info("job_ended", **held.log_names, outcome=outcome, **fields)
