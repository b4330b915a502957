"""Feeds batches into the queue, a bounded number of requests at a time, and ends them. Knows no HTTP.

What it does is noted in Redis after each step, and every step may be repeated: it may die between any two of them.
"""

import time
from collections.abc import Callable
from contextlib import closing, suppress
from itertools import islice

from service.batches.batch import Batch, BatchError, BatchStatus, Refusal
from service.batches.batches import Batches
from service.batches.lines import MAX_LINES, BatchRequest, Line, parse_line, read_lines, video_id_of
from service.batches.results import Results
from service.errors import (
    BudgetExceeded,
    InvalidRequest,
    ModerationBlocked,
    NoModel,
    ObjectNotFound,
    QueueFull,
    RecordUnreadable,
    ServiceError,
    TenantQueueFull,
    Unavailable,
    VideoNotFound,
)
from service.jobs.queue import JobQueue
from service.jobs.record import State
from service.jobs.store import VideoStore
from service.logs import get_logger
from service.storage import Storage

MAX_LINES_A_TURN = 500
"""So many at most that are refused, say, before other batches have their turn."""

ROUND_SECONDS = 20.0
"""Then no other batch begins its turn: well below a chore's lease."""

Submit = Callable[[Batch, BatchRequest], None]
"""Raises what ends a request, and Unavailable, TenantQueueFull or BudgetExceeded where it is to be sent again later."""

log = get_logger(__name__)


class BatchFeeder:
    """Whoever opened the parts closes them."""

    def __init__(
        self,
        batches: Batches,
        queue: JobQueue,
        store: VideoStore,
        storage: Storage,
        results: Results,
        submit: Submit,
        *,
        max_at_work: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """max_at_work: requests of one batch that wait or run at once."""
        self._batches = batches
        self._queue = queue
        self._store = store
        self._storage = storage
        self._results = results
        self._submit = submit
        self._max_at_work = max_at_work
        self._clock = clock

    def feed(self) -> None:
        """One turn for every batch, or for as many as there is time for. Raises Unavailable."""
        began = self._clock()
        for batch_id in self._batches.active():
            try:
                self._take_turn(batch_id)
            except RecordUnreadable as e:
                # The others' turns must not end with it.
                log.error("batch_unreadable", batch_id=batch_id, reason=e.message)
            if self._clock() - began > ROUND_SECONDS:
                return

    def _take_turn(self, batch_id: str) -> None:
        """Until the batch stays in its status, which never goes back."""
        before = None
        while (batch := self._batches.take_turn(batch_id)) is not None and batch.status is not before:
            before = batch.status
            self._advance_or_fail(batch)

    def _advance_or_fail(self, batch: Batch) -> None:
        try:
            self._advance(batch)
        except ObjectNotFound:
            self._give_up(batch)
            self._fail(batch, BatchError(code="file_not_found", message="The input file's content is gone."))

    def _advance(self, batch: Batch) -> None:
        match batch.status:
            case BatchStatus.VALIDATING:
                self._validate(batch)
            case BatchStatus.IN_PROGRESS:
                self._go_on(batch)
            case BatchStatus.CANCELLING:
                self._give_up(batch)
                self._end(batch, BatchStatus.CANCELLED)
            case BatchStatus.FINALIZING if batch.ends_as == "expired":
                self._give_up(batch)
                self._end(batch, BatchStatus.EXPIRED)
            case BatchStatus.FINALIZING:
                self._end(batch, BatchStatus.COMPLETED)
            case ended:
                raise AssertionError(f"a batch that is {ended} has no turn")

    def _validate(self, batch: Batch) -> None:
        lines = read_lines(self._storage, batch.input_key, size_bytes=batch.input_bytes)
        with closing(lines):
            total = sum(1 for _ in islice(lines, MAX_LINES + 1))
        if total == 0:
            self._fail(batch, BatchError(code="empty_file", message="The input file holds no request."))
        elif total > MAX_LINES:
            message = f"The input file holds more than {MAX_LINES} requests: split it."
            self._fail(batch, BatchError(code="too_many_requests", message=message, line=MAX_LINES + 1))
        else:
            self._batches.begin(batch, total=total)

    def _go_on(self, batch: Batch) -> None:
        if batch.is_late:
            self._batches.finalize(batch, ends_as="expired")
            return
        num_running = self._settle(batch)
        if not batch.is_fed:
            self._submit_more(batch, num_running)
        elif num_running == 0:
            self._batches.finalize(batch, ends_as="completed")

    def _settle(self, batch: Batch) -> int:
        """Count the requests whose videos have ended; how many have not."""
        numbers = self._batches.running(batch.id)
        records = {record.id: record for record in self._store.find([video_id_of(batch.id, n) for n in numbers])}
        states = {}
        for number in numbers:
            record = records.get(video_id_of(batch.id, number))
            # One that was deleted has no video to show.
            states[number] = State.FAILED if record is None else record.state
        completed = [number for number, state in states.items() if state is State.COMPLETED]
        failed = [number for number, state in states.items() if state.is_terminal and state is not State.COMPLETED]
        self._batches.settle(batch.id, completed=completed, failed=failed)
        return len(numbers) - len(completed) - len(failed)

    def _submit_more(self, batch: Batch, num_running: int | None) -> None:
        """Until enough of it wait; where the queue is full or the budget used up, the next turn goes on."""
        place = {"size_bytes": batch.input_bytes, "start": batch.offset, "number": batch.number}
        lines = read_lines(self._storage, batch.input_key, **place)
        with closing(lines), suppress(QueueFull, TenantQueueFull, BudgetExceeded, NoModel):
            for _ in range(MAX_LINES_A_TURN):
                if num_running is None or num_running >= self._max_at_work:
                    return
                line = next(lines, None)
                if line is None:
                    return
                num_running = self._pass_on(batch, line)

    def _pass_on(self, batch: Batch, line: Line) -> int | None:
        """Submit a request or note why not; as Batches.note()."""
        custom_id = None
        try:
            request = parse_line(batch.id, line)
            custom_id = request.custom_id
            self._refuse_taken(request)
            self._submit(batch, request)
        except (Unavailable, TenantQueueFull, BudgetExceeded):
            raise
        except ServiceError as e:
            category = e.category if isinstance(e, ModerationBlocked) else None
            refusal = Refusal(
                code=e.code, message=e.message, param=e.param, category=category, http_status=e.http_status
            )
            return self._batches.note(batch.id, line, custom_id=custom_id, refusal=refusal)
        return self._batches.note(batch.id, line, custom_id=custom_id)

    def _refuse_taken(self, request: BatchRequest) -> None:
        first = self._batches.number_of(request.batch_id, request.custom_id)
        if first not in (None, request.number):
            raise InvalidRequest(f"Request {first} has this custom_id already.", param="custom_id")

    def _give_up(self, batch: Batch) -> None:
        """Cancel what waits and runs. A feeder may have died between the next request's submission and its note."""
        for number in [*self._batches.running(batch.id), batch.number]:
            with suppress(VideoNotFound):
                self._queue.cancel(video_id_of(batch.id, number))

    def _end(self, batch: Batch, status: BatchStatus) -> None:
        written = self._results.write(batch)
        is_mine = self._batches.finish(
            batch, status=status, completed=written.num_completed, failed=written.num_failed, files=written.files
        )
        if is_mine:
            counts = {"completed": written.num_completed, "failed": written.num_failed}
            log.info("batch_ended", batch_id=batch.id, tenant=batch.tenant, status=status.value, **counts)

    def _fail(self, batch: Batch, error: BatchError) -> None:
        self._batches.fail(batch, error)
        log.info("batch_ended", batch_id=batch.id, tenant=batch.tenant, status="failed", code=error.code)
