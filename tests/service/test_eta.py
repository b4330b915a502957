"""When a video will be there: the work ahead, and the range that running jobs leave."""

import pytest

from service.jobs.card import ModelCard
from service.jobs.eta import Eta, eta_of
from service.jobs.execution import Progress
from service.jobs.queue import JobQueue
from service.jobs.record import WorkerInfo
from service.jobs.store import VideoStore
from tests.service.claims import MakeSubmission, claim

SECONDS = 3.0
"""That the card says a default clip takes."""


def work(store: VideoStore, card: ModelCard, *, num_workers: int) -> None:
    store.register_card(card)
    for i in range(num_workers):
        info = WorkerInfo(name=f"w{i}", model=card.id, device="cpu", started_at=1.0, host="h", pid=i)
        store.report_alive(info, ttl_seconds=60)


def test_nothing_is_known_without_a_live_worker_or_a_measured_speed(
    store: VideoStore, queue: JobQueue, card: ModelCard, submission: MakeSubmission
) -> None:
    store.register_card(card)
    video = queue.submit(submission("ball")).record
    assert eta_of(video, store.fleet()) is None
    work(store, card.model_copy(update={"measured": None}), num_workers=1)
    assert eta_of(video, store.fleet()) is None


def test_jobs_ahead_are_shared_by_the_workers_and_its_own_work_is_not(
    store: VideoStore, queue: JobQueue, card: ModelCard, submission: MakeSubmission
) -> None:
    work(store, card, num_workers=2)
    costs = {"expected_seconds": SECONDS}
    video = [queue.submit(submission(f"ball {i}").model_copy(update=costs)).record for i in range(5)][-1]

    assert eta_of(store.get(video.id), store.fleet()) == Eta(pytest.approx(3 * SECONDS), pytest.approx(3 * SECONDS))


def test_running_jobs_widen_the_range_of_those_that_wait(
    store: VideoStore, queue: JobQueue, card: ModelCard, submission: MakeSubmission
) -> None:
    work(store, card, num_workers=1)
    running, waiting = [queue.submit(submission(prompt)).record for prompt in ("one", "two")]
    queue.report(claim(queue).lease, Progress(stage="denoise", step=10, num_steps=20, percent=50))

    eta = eta_of(store.get(waiting.id), store.fleet())

    assert eta == Eta(pytest.approx(SECONDS), pytest.approx(2 * SECONDS))
    assert eta.likely == pytest.approx(1.5 * SECONDS)
    assert eta_of(store.get(running.id), store.fleet()) == Eta(pytest.approx(SECONDS / 2), pytest.approx(SECONDS / 2))
