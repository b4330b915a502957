"""Several jobs in one worker at once, on the real queue, store and engine."""

import io
from base64 import b64decode
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from PIL import Image

from model.engine import Engine
from model.request import Request
from service.jobs.execution import Signal
from service.jobs.queue import JobQueue
from service.jobs.record import State
from service.jobs.store import VideoStore
from tests.worker.claims import run_to_end
from tests.worker.watched import WatchedEngine
from worker.endings import DeviceLost
from worker.held import HeldJob
from worker.inbox import Inbox
from worker.loop import Worker
from worker.room import Room
from worker.runner import JobRunner
from worker.shutdown import Shutdown

Submit = Callable[..., str]
MakeRunner = Callable[..., JobRunner]


@pytest.fixture
def watched(engine: Engine) -> WatchedEngine:
    return WatchedEngine(engine)


@pytest.fixture
def runner(make_runner: MakeRunner, watched: WatchedEngine) -> JobRunner:
    return make_runner(engine=watched)


def claim_all(inbox: Inbox) -> list[HeldJob]:
    jobs = []
    while (held := inbox.next_job(wait_seconds=0)) is not None:
        jobs.append(held)
    return jobs


def states(store: VideoStore, ids: Sequence[str]) -> list[State]:
    return [store.get(video_id).state for video_id in ids]


def test_jobs_of_one_size_share_every_forward_and_all_complete(
    submit: Submit, inbox: Inbox, runner: JobRunner, watched: WatchedEngine, store: VideoStore
) -> None:
    ids = [submit("a red circle"), submit("a blue star"), submit("a green square", guidance_scale=1.0)]
    run_to_end(runner, *claim_all(inbox))
    assert states(store, ids) == [State.COMPLETED] * 3
    assert [sorted(group) for group in watched.groups] == [["a blue star", "a green square", "a red circle"]] * 2
    assert inbox.held == ()


def test_a_job_that_comes_later_joins_at_the_next_step(
    submit: Submit, inbox: Inbox, runner: JobRunner, watched: WatchedEngine, store: VideoStore
) -> None:
    ids = [submit("a red circle", num_inference_steps=4), submit("a blue star", num_inference_steps=3)]
    first, second = claim_all(inbox)
    runner.take(first)
    runner.advance()
    run_to_end(runner, second)
    assert states(store, ids) == [State.COMPLETED] * 2
    assert len(watched.groups[0]) == 1
    assert 2 in [len(group) for group in watched.groups]


def test_a_short_job_does_not_wait_for_a_long_one(
    submit: Submit, inbox: Inbox, runner: JobRunner, store: VideoStore
) -> None:
    long_id, short_id = submit("a red circle", num_inference_steps=20), submit("a blue star", num_frames=9)
    long, short = claim_all(inbox)
    runner.take(long)
    runner.advance()
    runner.take(short)
    while short.progress.state is not State.FINISHING:
        runner.advance()
    assert long.progress.step < 5
    run_to_end(runner)
    assert states(store, [long_id, short_id]) == [State.COMPLETED] * 2


def test_cancelling_one_leaves_the_others(
    submit: Submit, inbox: Inbox, runner: JobRunner, watched: WatchedEngine, queue: JobQueue, store: VideoStore
) -> None:
    ids = [submit("a red circle", num_inference_steps=6), submit("a blue star", num_inference_steps=6)]
    jobs = claim_all(inbox)
    for held in jobs:
        runner.take(held)
    runner.advance()
    queue.cancel(ids[0])
    jobs[0].signal = Signal.CANCEL
    run_to_end(runner)
    assert states(store, ids) == [State.CANCELLED, State.COMPLETED]
    assert [len(group) for group in watched.groups] == [2, 1, 1, 1, 1, 1]


def test_one_whose_numbers_overflow_fails_alone(
    submit: Submit, inbox: Inbox, runner: JobRunner, watched: WatchedEngine, store: VideoStore
) -> None:
    ids = [submit("a red circle"), submit("a blue star")]
    watched.failing_prompt = "a red circle"
    run_to_end(runner, *claim_all(inbox))
    assert states(store, ids) == [State.FAILED, State.COMPLETED]
    error = store.get(ids[0]).error
    assert error is not None
    assert error.code == "generation_failed"


def test_after_a_crash_in_company_each_runs_alone(
    submit: Submit, inbox: Inbox, runner: JobRunner, watched: WatchedEngine, store: VideoStore
) -> None:
    ids = [submit("a red circle"), submit("a blue star")]
    watched.error = ZeroDivisionError("oops")
    run_to_end(runner, *claim_all(inbox))
    assert states(store, ids) == [State.QUEUED] * 2
    watched.error, watched.groups = None, []
    first, second = claim_all(inbox)
    runner.take(first)
    assert not runner.has_room
    run_to_end(runner, second)
    assert states(store, ids) == [State.COMPLETED] * 2
    assert [len(group) for group in watched.groups] == [1] * 4


def test_a_lost_device_costs_only_those_in_the_forward_an_attempt(
    submit: Submit, inbox: Inbox, runner: JobRunner, watched: WatchedEngine, store: VideoStore
) -> None:
    ids = [submit("a red circle"), submit("a blue star"), submit("a green square", num_frames=17)]
    for held in claim_all(inbox):
        runner.take(held)
    watched.error = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    with pytest.raises(DeviceLost):
        runner.advance()
    assert states(store, ids) == [State.QUEUED] * 3
    assert [store.get(video_id).attempt for video_id in ids] == [1, 1, 0]
    assert inbox.held == ()


def test_shutdown_hands_all_back_without_costing_an_attempt(
    submit: Submit, inbox: Inbox, runner: JobRunner, shutdown: Shutdown, store: VideoStore
) -> None:
    ids = [submit("a red circle", num_inference_steps=100), submit("a blue star", num_inference_steps=100)]
    jobs = claim_all(inbox)
    for held in jobs:
        runner.take(held)
    runner.advance()
    shutdown._grace_seconds = 0.2
    shutdown.request()
    run_to_end(runner)
    assert states(store, ids) == [State.QUEUED] * 2
    assert [store.get(video_id).attempt for video_id in ids] == [0, 0]


def test_a_worker_never_holds_more_jobs_than_it_is_allowed(
    submit: Submit, inbox: Inbox, make_runner: MakeRunner, shutdown: Shutdown, tmp_path: Path
) -> None:
    for index in range(5):
        submit("a red circle", seed=index)
    runner, unused = make_runner(max_jobs_in_flight=3), cast(Any, None)
    worker = Worker(inbox, runner, unused, unused, Room(tmp_path, need_bytes=1), shutdown=shutdown)
    worker._take_jobs()
    # An idle worker takes one, and more only after its first step.
    assert len(inbox.held) == 1
    runner.advance()
    worker._take_jobs()
    assert len(inbox.held) == 3
    run_to_end(runner)


def test_a_running_job_shows_what_it_is_becoming(
    submit: Submit, inbox: Inbox, make_runner: MakeRunner, store: VideoStore
) -> None:
    runner = make_runner(preview_seconds=1e-6)
    video_id = submit(num_inference_steps=5)
    job_id = store.get(video_id).job_id
    runner.take(*claim_all(inbox))
    runner.advance()
    runner.advance()
    inbox.report()

    encoded = store.preview(job_id)

    assert encoded is not None
    with Image.open(io.BytesIO(b64decode(encoded))) as picture:
        assert (picture.format, picture.size) == ("WEBP", (256, 256))
    run_to_end(runner)
    assert store.preview(job_id) is None


@pytest.mark.parametrize("method", ["preview", "save"])
def test_a_job_that_can_not_be_shown_or_saved_is_tried_again_and_the_others_go_on(
    submit: Submit,
    inbox: Inbox,
    make_runner: MakeRunner,
    watched: WatchedEngine,
    store: VideoStore,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    """The error ended the worker, and with it every job in flight."""
    ids = [submit("a red circle", num_inference_steps=3), submit("a blue star", num_inference_steps=3)]
    do = getattr(watched, method)

    def fail_for_one(request: Request) -> object:
        if request.params.prompt == "a red circle":
            raise torch.OutOfMemoryError("no room")
        return do(request)

    monkeypatch.setattr(watched, method, fail_for_one)
    runner = make_runner(engine=watched, checkpoint_seconds=0, preview_seconds=1e-6)
    run_to_end(runner, *claim_all(inbox))

    assert states(store, ids) == [State.QUEUED, State.COMPLETED]
