"""One claimed job from start to end; it ends in exactly one way."""

import time
from collections.abc import Callable
from contextlib import suppress

import torch

from model.engine import Engine
from model.errors import Cancelled, InvalidParams, NotFinite, OutOfMemory
from model.frames import Frames
from service.errors import QueueRefused, Unavailable
from service.jobs.record import Outcome, Signal, Verdict
from service.logs import get_logger
from service.metrics import WorkerMetrics
from worker.finish import DiskFull, Finished, Finisher
from worker.generate import generate
from worker.held import HeldJob
from worker.inbox import Inbox
from worker.memory import forget_peak, peak_memory_mb
from worker.shutdown import Shutdown

log = get_logger(__name__)


class DeviceLost(Exception):
    """The device failed in the middle of a job; nothing more can run in this process."""


class JobRunner:
    """name: the worker's, as others see it."""

    def __init__(
        self,
        inbox: Inbox,
        engine: Engine,
        finisher: Finisher,
        *,
        shutdown: Shutdown,
        metrics: WorkerMetrics,
        name: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inbox = inbox
        self._engine = engine
        self._finisher = finisher
        self._shutdown = shutdown
        self._metrics = metrics
        self._name = name
        self._clock = clock

    def run(self, held: HeldJob) -> None:
        """Bring one job to its end: completed, failed, cancelled, handed back, dropped. Raises DeviceLost."""
        try:
            self._attempt(held)
        except Unavailable:
            # Redis stayed away until the end of the grace time: the lease runs out and the job runs again.
            log.warning("job_left_to_its_lease", job_id=held.id)

    def _attempt(self, held: HeldJob) -> None:
        claimed_at = self._clock()
        log.info("job_started", job_id=held.id, attempt=held.claim.attempt)
        forget_peak(self._engine.device)
        try:
            frames = generate(self._engine, held, shutdown=self._shutdown, metrics=self._metrics)
            finished = self._finisher.finish(held, frames)
            self._complete(held, frames, finished, claimed_at=claimed_at)
        except Cancelled:
            self._interrupt(held)
        except InvalidParams as e:
            self._fail(held, "invalid_request", str(e))
        except OutOfMemory as e:
            self._fail(held, "out_of_memory", str(e))
        except NotFinite as e:
            self._fail(held, "generation_failed", str(e))
        except DiskFull:
            # Another worker's disk may have room.
            log.error("disk_full", job_id=held.id)
            self._retry(held, f"no disk space on {self._name}")
        except torch.AcceleratorError as e:
            self._give_back(held, e)
            raise DeviceLost from e
        except Unavailable:
            raise
        except Exception as e:  # noqa: BLE001  one job's bug must not end the worker; it is logged with its trace
            self._give_back(held, e)

    def _complete(self, held: HeldJob, frames: Frames, finished: Finished, *, claimed_at: float) -> None:
        stages = {
            "queued": held.claim.waited_seconds,
            "text": frames.seconds.text,
            "denoise": frames.seconds.denoise,
            "decode": frames.seconds.decode,
            "encode": finished.encode_seconds,
            "upload": finished.upload_seconds,
            "total": held.claim.waited_seconds + self._clock() - claimed_at,
        }
        outcome = Outcome.completed(
            finished.asset,
            stage_durations={stage: round(seconds, 4) for stage, seconds in stages.items()},
            inference_time_seconds=round(frames.seconds.total, 4),
            peak_memory_mb=round(peak_memory_mb(self._engine.device), 1),
            worker=self._name,
        )
        try:
            verdict = self._inbox.finish(held, outcome)
        except QueueRefused:
            self._remove_uncommitted(held, finished)
            raise
        if verdict is Verdict.LOST:
            self._finisher.remove(finished.asset)
            self._count(held, "lost")
            return
        self._metrics.observe_stages(outcome.stage_durations)
        self._count(held, "completed", total_seconds=outcome.stage_durations["total"])

    def _remove_uncommitted(self, held: HeldJob, finished: Finished) -> None:
        """An outcome that stays unknown keeps its files: a record may name them."""
        with suppress(Unavailable):
            if not self._inbox.has_ended(held):
                self._finisher.remove(finished.asset)

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

    def _fail(self, held: HeldJob, code: str, message: str) -> None:
        self._inbox.finish(held, Outcome.failed(code, message, worker=self._name))
        self._count(held, "failed", code=code)

    def _give_back(self, held: HeldJob, error: Exception) -> None:
        log.error("job_raised", job_id=held.id, exc_info=error)
        self._retry(held, f"{type(error).__name__} on {self._name}")

    def _retry(self, held: HeldJob, reason: str) -> None:
        self._inbox.retry(held, reason)
        self._count(held, "retried")

    def _count(self, held: HeldJob, outcome: str, **fields: object) -> None:
        self._metrics.finished.labels(outcome).inc()
        log.info("job_ended", job_id=held.id, outcome=outcome, **fields)
