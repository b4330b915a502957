"""The jobs in flight: carries out on the engine what the policy decides, step by step; finishing goes on beside it."""

import concurrent.futures
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial

from model.engine import Engine
from model.errors import Cancelled, InvalidState
from model.frames import Frames
from service.errors import Unavailable
from service.jobs.execution import Signal
from service.logs import get_logger
from service.metrics import WorkerMetrics
from worker.checkpoints import Checkpoints
from worker.endings import DeviceLost, Endings
from worker.finishing import FinishingPool
from worker.generate import Generation
from worker.held import HeldJob
from worker.memory import forget_peak
from worker.policy.decision import Decision
from worker.policy.estimate import Estimator
from worker.policy.policy import Policy
from worker.shutdown import Shutdown

IDLE_SECONDS = 0.05
"""How long the engine's thread waits at a time when all that goes on is beside it: finishing, fetching."""

log = get_logger(__name__)


class JobRunner:
    """Every job that it takes ends in one way (endings.py), and leaves the policy as it ends.

    A job that was tried before may be what ended its worker: it runs alone, so that it can't take others with it
    once more.
    """

    def __init__(
        self,
        engine: Engine,
        policy: Policy,
        estimator: Estimator,
        endings: Endings,
        finishing: FinishingPool,
        checkpoints: Checkpoints,
        *,
        checkpoint_seconds: float,
        preview_seconds: float,
        shutdown: Shutdown,
        metrics: WorkerMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._policy = policy
        self._estimator = estimator
        self._endings = endings
        self._finishing = finishing
        self._checkpoints = checkpoints
        self._checkpoint_seconds = checkpoint_seconds
        self._preview_seconds = preview_seconds
        self._shutdown = shutdown
        self._metrics = metrics
        self._clock = clock
        self._generations: dict[str, Generation] = {}
        self._fetching: dict[Generation, Future[bytes | None]] = {}
        """Whose saved states are on their way from storage; the others go on meanwhile."""

        self._suspect: Generation | None = None

    @property
    def is_busy(self) -> bool:
        return self.is_stepping or self._finishing.is_busy

    @property
    def is_stepping(self) -> bool:
        """Whether a job is in the engine, or waits for it."""
        return bool(self._generations or self._fetching) or self._suspect is not None

    @property
    def has_room(self) -> bool:
        """Whether another job would be of use now."""
        if self._suspect is not None or self._fetching:
            return False
        is_alone = any(generation.held.claim.attempt > 1 for generation in self._generations.values())
        return not is_alone and self._finishing.has_room and self._policy.has_room

    @property
    def shapes(self) -> frozenset[str]:
        """Of requests that could share a forward with those in flight."""
        return frozenset(generation.held.claim.payload.request.shape for generation in self._generations.values())

    @property
    def busy_seconds(self) -> float:
        """As JobQueue.claim() takes it."""
        return self._policy.busy_seconds

    def take(self, held: HeldJob) -> None:
        """Raises DeviceLost."""
        log.info("job_started", **held.log_names, attempt=held.claim.attempt)
        generation = Generation(held, clock=self._clock)
        if held.claim.attempt == 1:
            self._metrics.wait_seconds.labels(held.claim.payload.priority).observe(held.claim.waited_seconds)
        if held.claim.attempt > 1 and self._generations:
            self._suspect = generation
        else:
            self._begin(generation)

    def advance(self) -> None:
        """One step of those whom the policy names, and the end of every job that is due. Raises DeviceLost."""
        try:
            self._end_unwanted()
            self._begin_suspect()
            self._add_fetched()
            decision = self._policy.decide(self._clock())
            self._admit(decision)
            if decision.step is not None:
                self._step([g for g in map(self._generations.get, decision.step.job_ids) if g and g.is_admitted])
            self._decode(self._due())
            self._metrics.show_in_flight(self._num_by_phase())
            if decision.step is None:
                self._wait()
        except DeviceLost:
            # The others did no harm.
            for generation in self._all():
                self._end(generation, Cancelled(f"{generation.held.id} lost its device."))
            raise

    def _wait(self) -> None:
        """For what goes on beside the engine, where that has nothing to do."""
        if self._finishing.is_busy:
            self._finishing.wait(seconds=IDLE_SECONDS)
        elif self._fetching:
            concurrent.futures.wait(self._fetching.values(), IDLE_SECONDS, concurrent.futures.FIRST_COMPLETED)

    def _begin(self, generation: Generation) -> None:
        if generation.held.claim.checkpoint is None:
            self._add(generation)
        else:
            self._fetching[generation] = self._checkpoints.start_to_fetch(generation.held)

    def _add_fetched(self) -> None:
        for generation, fetched in [each for each in self._fetching.items() if each[1].done()]:
            if self._attempt(generation, partial(_put_state, generation, fetched)):
                del self._fetching[generation]
                self._add(generation)

    def _add(self, generation: Generation) -> None:
        if not self._generations:
            forget_peak(self._engine.device)
        held, params = generation.held, generation.params

        def add() -> None:
            self._engine.check(params)
            self._policy.add(
                self._estimator.job(
                    held.id,
                    params,
                    schedule=self._engine.schedule(params),
                    priority=held.claim.payload.priority,
                    arrived_at=generation.claimed_at,
                    deadline=_deadline(generation),
                    steps_done=0 if generation.state is None else _steps_done(held),
                )
            )
            self._generations[held.id] = generation

        self._attempt(generation, add)

    def _begin_suspect(self) -> None:
        if self._suspect is not None and not self._generations:
            suspect, self._suspect = self._suspect, None
            self._begin(suspect)

    def _end_unwanted(self) -> None:
        for generation in self._all():
            if generation.must_end(self._shutdown):
                self._hand_back(generation)

    def _hand_back(self, generation: Generation) -> None:
        if self._attempt(generation, lambda: self._save_for_others(generation)):
            self._end(generation, Cancelled(f"{generation.held.id} is not wanted here any more."))

    def _admit(self, decision: Decision) -> None:
        for job_id in decision.park:
            self._attempt_for(job_id, lambda generation: self._engine.park(generation.admitted))
        for job_id in decision.unpark:
            self._attempt_for(job_id, lambda generation: self._engine.unpark(generation.admitted))
        for job_id in decision.admit:
            self._attempt_for(job_id, self._admit_one)

    def _admit_one(self, generation: Generation) -> None:
        try:
            generation.admit(self._engine)
        except InvalidState as e:
            log.warning("checkpoint_unusable", job_id=generation.held.id, reason=str(e))
            self._forget(generation)
            self._add(generation)
            return
        self._metrics.engine_seconds.labels("text").inc(generation.admitted.text_seconds)
        if generation.admitted.step:
            self._metrics.resumed.inc()
            log.info("job_resumed", job_id=generation.held.id, step=generation.admitted.step)

    def _step(self, group: Sequence[Generation]) -> None:
        if not group:
            return
        started, swapped = self._clock(), self._engine.swap_seconds
        try:
            failed = self._engine.step([generation.admitted for generation in group])
        except Exception as e:  # noqa: BLE001  whoever shared the forward is handed back, and runs alone next time
            self._end_together(group, e)
            return
        seconds = self._clock() - started - (self._engine.swap_seconds - swapped)
        stepped = [generation for generation in group if generation.admitted not in failed]
        self._policy.stepped([generation.held.id for generation in stepped], max(0.0, seconds))
        self._metrics.steps.inc(len(stepped))
        for generation in stepped:
            self._attempt_for(generation.held.id, self._after_step)
        for generation in group:
            if (error := failed.get(generation.admitted)) is not None:
                self._end(generation, error)

    def _after_step(self, generation: Generation) -> None:
        self._show_if_due(generation)
        generation.report_step()
        self._save_if_due(generation)

    def _show_if_due(self, generation: Generation) -> None:
        if 0 < self._preview_seconds <= generation.unshown_seconds:
            generation.show(self._engine)

    def _save_if_due(self, generation: Generation) -> None:
        if not generation.is_denoised and generation.unsaved_seconds >= self._checkpoint_seconds:
            self._checkpoints.offer(generation.held, generation.saved(self._engine), step=generation.admitted.step)

    def _save_for_others(self, generation: Generation) -> None:
        """Before a wanted job is handed back."""
        is_under_way = generation.is_admitted and generation.admitted.step > 0 and not generation.is_denoised
        if is_under_way and generation.held.signal is Signal.OK:
            self._checkpoints.save(generation.held, generation.saved(self._engine), step=generation.admitted.step)

    def _due(self) -> Sequence[Generation]:
        """Those to be decoded, as many as there is room for to finish them."""
        denoised = [each for each in self._generations.values() if each.is_denoised]
        return denoised[: self._finishing.num_free]

    def _decode(self, generations: Sequence[Generation]) -> None:
        if not generations:
            return
        started = self._clock()
        decoded = self._engine.decode_all([each.decode(self._shutdown) for each in generations])
        self._metrics.engine_seconds.labels("decode").inc(self._clock() - started)
        for generation, frames in zip(generations, decoded, strict=True):
            if self._attempt(generation, partial(self._finish, generation, frames)):
                self._forget(generation)

    def _finish(self, generation: Generation, frames: Future[Frames]) -> None:
        self._finishing.finish(generation.held, frames.result(), claimed_at=generation.claimed_at)

    def _attempt_for(self, job_id: str, action: Callable[[Generation], None]) -> None:
        generation = self._generations[job_id]
        self._attempt(generation, lambda: action(generation))

    def _attempt(self, generation: Generation, action: Callable[[], None]) -> bool:
        try:
            action()
        except Exception as e:  # noqa: BLE001  one job's bug must not end the worker; it is logged with its trace
            self._end(generation, e)
            return False
        return True

    def _end_together(self, group: Sequence[Generation], error: Exception) -> None:
        lost: DeviceLost | None = None
        for generation in group:
            try:
                self._end(generation, error)
            except DeviceLost as e:
                lost = e
        if lost is not None:
            raise lost

    def _end(self, generation: Generation, error: Exception) -> None:
        self._forget(generation)
        self._endings.fail(generation.held, error)

    def _forget(self, generation: Generation) -> None:
        if generation is self._suspect:
            self._suspect = None
        elif generation in self._fetching:
            del self._fetching[generation]
        elif self._generations.pop(generation.held.id, None) is not None:
            self._policy.remove(generation.held.id)

    def _num_by_phase(self) -> Counter[str]:
        phases = Counter(generation.phase for generation in self._generations.values())
        phases["waiting"] += len(self._fetching) + (self._suspect is not None)
        phases["finishing"] = self._finishing.num_taken
        return phases

    def _all(self) -> list[Generation]:
        waiting = [] if self._suspect is None else [self._suspect]
        return [*self._generations.values(), *self._fetching, *waiting]


def _put_state(generation: Generation, fetched: "Future[bytes | None]") -> None:
    """Raises Cancelled where it could not be read."""
    try:
        generation.state = fetched.result()
    except Unavailable as e:
        raise Cancelled(f"The saved state of {generation.held.id} can't be read in time.") from e


def _steps_done(held: HeldJob) -> int:
    return 0 if held.claim.checkpoint is None else held.claim.checkpoint.step


def _deadline(generation: Generation) -> float | None:
    """On the runner's clock."""
    claim = generation.held.claim
    seconds = claim.payload.deadline_seconds
    return None if seconds is None else generation.claimed_at + seconds - claim.waited_seconds
