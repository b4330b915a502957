"""States of running jobs in object storage: saved beside the engine, fetched when a job is claimed again."""

import threading
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from service.errors import ObjectNotFound, Unavailable
from service.jobs.execution import Signal
from service.jobs.garbage import Garbage
from service.jobs.queue import JobQueue
from service.jobs.record import checkpoint_key
from service.logs import get_logger
from service.metrics import WorkerMetrics
from service.storage import Storage
from worker.held import HeldJob
from worker.patience import insist
from worker.shutdown import Shutdown

CONTENT_TYPE = "application/octet-stream"
LAST_SECONDS = 2.0
"""Of a shutdown's grace: kept for handing jobs back."""

STOP_SECONDS = 1.0

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Offer:
    held: HeldJob
    state: bytes
    step: int


class Checkpoints:
    """Its thread lives from start() to stop(). scratch: an existing folder of this process.

    Nothing that fails here costs more than steps: a job whose state was not saved, or is gone, starts anew.
    """

    def __init__(
        self,
        queue: JobQueue,
        garbage: Garbage,
        storage: Storage,
        scratch: Path,
        *,
        shutdown: Shutdown,
        metrics: WorkerMetrics,
    ) -> None:
        self._queue = queue
        self._garbage = garbage
        self._storage = storage
        self._scratch = scratch
        self._shutdown = shutdown
        self._metrics = metrics
        self._offers: dict[str, _Offer] = {}
        self._wake = threading.Condition()
        self._is_over = False
        self._was_available = True
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """No job is held any more: what waits is dropped, what is being saved may take STOP_SECONDS."""
        with self._wake:
            self._is_over = True
            self._offers.clear()
            self._wake.notify()
        self._thread.join(STOP_SECONDS)

    def offer(self, held: HeldJob, state: bytes, *, step: int) -> None:
        """Returns at once. A job's newest offer takes the place of one that is not saved yet."""
        with self._wake:
            self._offers[held.id] = _Offer(held, state, step)
            self._wake.notify()

    def save(self, held: HeldJob, state: bytes, *, step: int) -> None:
        """Now, on this thread: before a job is handed back at a shutdown. Without a store, or time, it is left."""
        with self._wake:
            self._offers.pop(held.id, None)
        if self._shutdown.seconds_left > LAST_SECONDS:
            self._try_to_save(_Offer(held, state, step))

    def fetch(self, held: HeldJob) -> bytes | None:
        """The state that the claimed job goes on from, if there is one; waits for a store that does not answer.

        Raises Unavailable when the job is no longer wanted or a shutdown can't wait any longer.
        """
        checkpoint = held.claim.checkpoint
        if checkpoint is None:
            return None

        def may_go_on() -> bool:
            held.touch()
            return held.signal is Signal.OK and self._shutdown.seconds_left > LAST_SECONDS

        try:
            return insist(lambda: b"".join(self._storage.read(checkpoint.key)), may_go_on=may_go_on, name="storage")
        except ObjectNotFound:
            log.warning("checkpoint_gone", job_id=held.id, key=checkpoint.key)
            return None

    def start_to_fetch(self, held: HeldJob) -> "Future[bytes | None]":
        """fetch() on a thread of its own, which a process that ends does not wait for."""
        fetched: Future[bytes | None] = Future()

        def run() -> None:
            try:
                fetched.set_result(self.fetch(held))
            except Exception as e:  # noqa: BLE001  told to whoever asks for the result
                fetched.set_exception(e)

        threading.Thread(target=run, name="checkpoint", daemon=True).start()
        return fetched

    def work(self) -> None:
        """Saves what was offered, the oldest first; each only when it is its turn, so that it is a job's newest."""
        while (offer := self._next_offer()) is not None:
            self._try_to_save(offer)

    def _next_offer(self) -> _Offer | None:
        with self._wake:
            return self._offers.pop(next(iter(self._offers))) if self._offers else None

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._offers and not self._is_over:
                    self._wake.wait()
                is_over = self._is_over
            try:
                self.work()
            except Exception:
                # Saving is for the worst case, and must not become it.
                log.exception("checkpoints_failed")
            if is_over:
                return

    def _try_to_save(self, offer: _Offer) -> None:
        try:
            self._save(offer)
        except Unavailable as e:
            self._note(is_available=False, reason=e.message)
        else:
            self._note(is_available=True)

    def _save(self, offer: _Offer) -> None:
        lease = offer.held.claim.lease
        key = checkpoint_key(lease.job_id, lease.execution_id, offer.step)
        # save() may be at the same job on another thread.
        file = self._scratch / f"{lease.job_id}-{offer.step}-{threading.get_ident()}.safetensors"
        self._garbage.announce(key)
        try:
            file.write_bytes(offer.state)
            self._storage.put_file(key, file, content_type=CONTENT_TYPE)
        except OSError as e:
            log.warning("checkpoint_not_written", job_id=offer.held.id, reason=str(e))
            return
        finally:
            file.unlink(missing_ok=True)
        if self._queue.checkpoint(lease, key, step=offer.step) is Signal.OK:
            self._metrics.checkpoints.inc()

    def _note(self, *, is_available: bool, reason: str = "") -> None:
        """Logs once when it changes."""
        if is_available != self._was_available:
            log.warning("checkpoints_back" if is_available else "checkpoints_unavailable", reason=reason)
        self._was_available = is_available
