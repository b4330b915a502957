"""The event loop's way to the queue: the answers of the other one, and nothing where that must be asked."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis import Redis

from service.errors import QueueFull, QueueUnavailable, VideoNotFound
from service.jobs.card import ModelCard
from service.jobs.connection import connect_async
from service.jobs.fleet import FleetChanged
from service.jobs.memory import MemoryGauge
from service.jobs.queue import JobQueue
from service.jobs.quick import QuickQueue
from service.jobs.record import new_job_id, new_video_id
from service.jobs.store import VideoStore
from service.jobs.submission import Submission, SubmitKind, Submitted
from service.settings import Settings
from tests.worker.proxy import CuttableProxy

MakeSubmission = Callable[..., Submission]
Quickly = Callable[..., Any]
TENANT = "default"


@pytest.fixture
def store(store: VideoStore, card: ModelCard) -> VideoStore:
    """Knows a model, and has looked."""
    store.register_card(card)
    store.fleet()
    return store


@pytest.fixture
def queue(queue: JobQueue) -> JobQueue:
    """Has asked Redis how full it is, on a clock that stands."""
    queue._memory = MemoryGauge(queue._redis, clock=lambda: 0.0)
    queue._memory.is_short()
    return queue


@pytest.fixture
def quickly(settings: Settings, queue: JobQueue, store: VideoStore) -> Quickly:
    """quickly(ask) runs ask(quick) on a loop and a connection of its own."""

    def run(
        ask: Callable[[QuickQueue], Awaitable[Any]], *, url: str = str(settings.redis_url), of_queue: JobQueue = queue
    ) -> Any:
        async def asked() -> Any:
            redis = connect_async(url)
            try:
                return await ask(QuickQueue(redis, of_queue, store))
            finally:
                await redis.aclose()

        return asyncio.run(asked())

    return run


def test_a_submission_is_queued_and_replayed_as_the_queue_would(
    quickly: Quickly, queue: JobQueue, store: VideoStore, submission: MakeSubmission
) -> None:
    given = submission("a red ball").model_copy(update={"idempotency_key": "once", "body_fingerprint": "same"})
    first: Submitted = quickly(lambda quick: quick.submit(given, fleet=store.last_fleet))
    other = given.model_copy(update={"video_id": new_video_id(), "job_id": new_job_id()})
    again: Submitted = quickly(lambda quick: quick.submit(other, fleet=store.last_fleet))

    assert (first.kind, queue.depth()) == (SubmitKind.QUEUED, 1)
    assert first.record == store.get(first.record.id)
    assert (again.kind, again.record) == (SubmitKind.REPLAYED, first.record)
    assert queue.submit(other) == again


def test_what_the_queue_refuses_is_refused_as_the_queue_would(
    quickly: Quickly, redis: Redis, settings: Settings, store: VideoStore, card: ModelCard, submission: MakeSubmission
) -> None:
    seen = store.last_fleet
    full = JobQueue(redis, settings.with_changes(max_queue_depth=1))
    full._memory = MemoryGauge(redis, clock=lambda: 0.0)
    full.submit(submission("a red ball"))
    with pytest.raises(QueueFull) as quick_error:
        quickly(lambda quick: quick.submit(submission("a blue ball"), fleet=seen), of_queue=full)
    with pytest.raises(QueueFull) as error:
        full.submit(submission("a blue ball"))
    assert quick_error.value.message == error.value.message
    assert quick_error.value.retry_after_seconds == error.value.retry_after_seconds

    store.register_card(card.model_copy(update={"id": "another", "aliases": ()}))
    with pytest.raises(FleetChanged):
        quickly(lambda quick: quick.submit(submission("a blue ball"), fleet=seen))
    assert full.depth() == 1


def test_a_queue_that_was_not_asked_how_full_it_is_is_left_to_be_asked(
    quickly: Quickly, redis: Redis, settings: Settings, store: VideoStore, submission: MakeSubmission
) -> None:
    fresh = JobQueue(redis, settings)
    assert quickly(lambda quick: quick.submit(submission("a red ball"), fleet=store.last_fleet), of_queue=fresh) is None
    assert fresh.depth() == 0


def test_a_look_shows_what_the_store_shows(
    quickly: Quickly, queue: JobQueue, store: VideoStore, submission: MakeSubmission
) -> None:
    video_id = queue.submit(submission("a red ball")).record.id
    assert quickly(lambda quick: quick.look(video_id, tenant=TENANT)) == (store.get(video_id), store.fleet())
    with pytest.raises(VideoNotFound):
        quickly(lambda quick: quick.look(video_id, tenant="somebody else"))


def test_a_look_learns_of_another_fleet(
    quickly: Quickly, queue: JobQueue, store: VideoStore, redis: Redis, card: ModelCard, submission: MakeSubmission
) -> None:
    video_id = queue.submit(submission("a red ball")).record.id
    VideoStore(redis).register_card(card.model_copy(update={"id": "another", "aliases": ()}))
    _, fleet = quickly(lambda quick: quick.look(video_id, tenant=TENANT))
    assert fleet == store.last_fleet
    assert {known.id for known in fleet.cards} == {card.id, "another"}


def test_a_server_that_forgot_its_scripts_is_told_them(
    quickly: Quickly, queue: JobQueue, store: VideoStore, redis: Redis, submission: MakeSubmission
) -> None:
    redis.script_flush()
    made: Submitted = quickly(lambda quick: quick.submit(submission("a red ball"), fleet=store.last_fleet))
    redis.script_flush()
    record, _ = quickly(lambda quick: quick.look(made.record.id, tenant=TENANT))
    assert record == made.record


def test_a_queue_that_does_not_answer_is_told_as_such(
    quickly: Quickly, settings: Settings, queue: JobQueue, store: VideoStore, submission: MakeSubmission
) -> None:
    video_id = queue.submit(submission("a red ball")).record.id
    redis_url = str(settings.redis_url)
    place = urlsplit(redis_url)
    with CuttableProxy(redis_url) as proxy:
        proxied = place._replace(netloc=f":{place.password}@127.0.0.1:{proxy.port}").geturl()
        proxy.cut()
        with pytest.raises(QueueUnavailable):
            quickly(lambda quick: quick.look(video_id, tenant=TENANT), url=proxied)
        with pytest.raises(QueueUnavailable):
            quickly(lambda quick: quick.submit(submission("a blue ball"), fleet=store.last_fleet), url=proxied)
    assert queue.depth() == 1
