"""Models and workers as one value, and requests that were made for an older one."""

from collections.abc import Callable

import pytest
from redis import Redis

from service.errors import ModelNotFound, NoModel
from service.jobs.card import ModelCard
from service.jobs.fleet import FleetChanged
from service.jobs.queue import JobQueue
from service.jobs.record import WorkerInfo
from service.jobs.store import VideoStore
from service.jobs.submission import Submission

MakeSubmission = Callable[..., Submission]


def worker(name: str, *, model: str) -> WorkerInfo:
    return WorkerInfo(name=name, model=model, device="cpu", started_at=0.0, host="h", pid=1)


def test_an_empty_fleet_has_no_model(store: VideoStore) -> None:
    with pytest.raises(NoModel):
        store.fleet().card()


def test_a_model_answers_to_id_and_alias_and_to_nothing_else(store: VideoStore, card: ModelCard) -> None:
    store.register_card(card)
    fleet = store.fleet()
    assert [fleet.card(name).id for name in (None, card.id, "embedded")] == [card.id] * 3
    with pytest.raises(ModelNotFound):
        fleet.card("sora-2")


def test_models_of_live_workers_come_first(store: VideoStore, card: ModelCard) -> None:
    store.register_card(card.model_copy(update={"id": "a-model-without-workers"}))
    store.register_card(card)
    store.report_alive(worker("w", model=card.id), ttl_seconds=60)
    fleet = store.fleet()
    assert [known.id for known in fleet.cards] == [card.id, "a-model-without-workers"]
    assert (fleet.num_workers(card.id), fleet.num_workers("a-model-without-workers")) == (1, 0)


def test_a_worker_that_says_the_same_again_changes_nothing(store: VideoStore, card: ModelCard) -> None:
    store.register_card(card)
    store.report_alive(worker("w", model=card.id), ttl_seconds=60)
    before = store.fleet()
    store.report_alive(worker("w", model=card.id), ttl_seconds=60)
    assert store.fleet() == before


def test_a_request_made_for_an_older_fleet_is_not_queued(
    store: VideoStore, queue: JobQueue, card: ModelCard, submission: MakeSubmission
) -> None:
    store.register_card(card)
    seen = store.fleet()
    assert queue.submit(submission("a red ball"), fleet=seen).record.queue_position == 0
    store.register_card(card.model_copy(update={"fingerprint": "0" * 64}))
    with pytest.raises(FleetChanged):
        queue.submit(submission("a blue ball"), fleet=seen)
    assert queue.depth() == 1


def test_a_submit_repeated_after_a_lost_reply_does_not_mind_a_changed_fleet(
    store: VideoStore, queue: JobQueue, card: ModelCard, submission: MakeSubmission
) -> None:
    store.register_card(card)
    seen, given = store.fleet(), submission("a red ball")
    first = queue.submit(given, fleet=seen)
    store.report_alive(worker("w", model=card.id), ttl_seconds=60)
    assert queue.submit(given, fleet=seen) == first


def test_a_look_at_a_video_brings_the_fleet_that_it_waits_for(
    redis: Redis, store: VideoStore, queue: JobQueue, card: ModelCard, submission: MakeSubmission
) -> None:
    store.register_card(card)
    video_id = queue.submit(submission("a red ball")).record.id
    looker = VideoStore(redis)
    assert looker.look(video_id) == (store.get(video_id), store.fleet())
    store.report_alive(worker("w", model=card.id), ttl_seconds=60)
    _, fleet = looker.look(video_id)
    assert fleet == looker.last_fleet == store.fleet()
