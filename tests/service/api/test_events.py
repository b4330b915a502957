"""GET /v1/videos/{id}/events."""

import asyncio
import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from redis import Redis

from service.api.fanout import Fanout
from service.jobs.card import ModelCard
from service.jobs.execution import Progress, ProgressMessage
from service.jobs.record import State
from service.jobs.store import PROGRESS_CHANNEL, VideoStore
from service.settings import Settings
from tests.service.api.conftest import FakeWorker, serving
from tests.worker.proxy import CuttableProxy

Event = tuple[str, dict[str, Any]]


def events_of(answer: httpx.Response) -> Iterator[Event]:
    name = ""
    for line in answer.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def test_a_stream_begins_with_the_present_and_ends_with_the_video(client: httpx.Client, worker: FakeWorker) -> None:
    video_id = client.post("/v1/videos", json={"prompt": "a red ball"}).json()["id"]

    with client.stream("GET", f"/v1/videos/{video_id}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = events_of(answer)
        name, video = next(events)
        assert (name, video["status"], video["queue_position"]) == ("progress", "queued", 0)
        worker.finish()
        rest = list(events)

    assert [name for name, _ in rest][-1] == "completed"
    assert rest[-1][1]["status"] == "completed"
    assert rest[-1][1]["output"]["url"]


def test_progress_reaches_every_stream(client: httpx.Client, worker: FakeWorker) -> None:
    video_id = client.post("/v1/videos", json={"prompt": "a red ball"}).json()["id"]
    path = f"/v1/videos/{video_id}/events"

    with client.stream("GET", path) as one, client.stream("GET", path) as other:
        streams = [events_of(one), events_of(other)]
        for events in streams:
            next(events)
        lease = worker.claim().lease
        worker.queue.report(lease, Progress(stage="denoise", step=9, num_steps=20, percent=45))
        for events in streams:
            assert any(video["progress"] == 45 for _, video in events)


def test_a_failed_video_ends_its_stream(client: httpx.Client, worker: FakeWorker) -> None:
    video_id = client.post("/v1/videos", json={"prompt": "a red ball"}).json()["id"]
    worker.fail("out_of_memory", "Too little memory.")

    with client.stream("GET", f"/v1/videos/{video_id}/events") as answer:
        [(name, video)] = events_of(answer)

    assert (name, video["error"]["code"]) == ("failed", "out_of_memory")


def test_a_deleted_video_ends_its_stream(client: httpx.Client) -> None:
    video_id = client.post("/v1/videos", json={"prompt": "a red ball"}).json()["id"]

    with client.stream("GET", f"/v1/videos/{video_id}/events") as answer:
        events = events_of(answer)
        next(events)
        client.delete(f"/v1/videos/{video_id}")
        names = [name for name, _ in events]

    assert names[-1] == "deleted"


def test_a_stream_waits_out_an_outage_of_redis(
    gateway_settings: Settings, worker: FakeWorker, store: VideoStore, card: ModelCard, free_port: Callable[[], int]
) -> None:
    store.register_card(card)
    assert gateway_settings.redis_url is not None
    with CuttableProxy(gateway_settings.redis_url) as proxy:
        behind = gateway_settings.redis_url.replace(f":{urlsplit(gateway_settings.redis_url).port}", f":{proxy.port}")
        settings = gateway_settings.with_changes(port=free_port(), redis_url=behind)
        with serving(settings), httpx.Client(base_url=f"http://127.0.0.1:{settings.port}", timeout=60) as client:
            video_id = client.post("/v1/videos", json={"prompt": "a red ball"}).json()["id"]
            with client.stream("GET", f"/v1/videos/{video_id}/events") as answer:
                lines = answer.iter_lines()
                proxy.cut()
                assert any(line == ": queue_unavailable, waiting" for line in lines)
                worker.finish()
                proxy.mend()
                names = [line for line in lines if line.startswith("event: ")]

    assert names[-1] == "event: completed"


@pytest.mark.parametrize("stray", [b"hello", b"\xff\xfe", b'{"schema":9}'])
def test_a_stray_message_does_not_deafen_the_fanout(gateway_settings: Settings, redis: Redis, stray: bytes) -> None:
    heard = ProgressMessage(job_id="job_1", state=State.STARTED)

    async def listen(redis_url: str) -> None:
        fanout = Fanout(redis_url)
        listener = asyncio.create_task(fanout.run())
        with fanout.bell("job_1") as bell:
            # Rung once when the subscription stands.
            await asyncio.wait_for(bell.wait(), 60)
            bell.clear()
            redis.publish(PROGRESS_CHANNEL, stray)
            redis.publish(PROGRESS_CHANNEL, heard.model_dump_json())
            await asyncio.wait_for(bell.wait(), 60)
        assert not listener.done()
        listener.cancel()

    assert gateway_settings.redis_url is not None
    asyncio.run(listen(gateway_settings.redis_url))


def test_a_gateway_that_stops_ends_its_streams(
    gateway_settings: Settings, redis: Redis, store: VideoStore, card: ModelCard, free_port: Callable[[], int]
) -> None:
    store.register_card(card)
    settings = gateway_settings.with_changes(port=free_port())
    with serving(settings) as server, httpx.Client(base_url=f"http://127.0.0.1:{settings.port}") as client:
        video_id = client.post("/v1/videos", json={"prompt": "a red ball"}).json()["id"]
        with client.stream("GET", f"/v1/videos/{video_id}/events") as answer:
            events = events_of(answer)
            next(events)
            server.handle_exit(15, None)
            assert list(events) == []


def test_a_stream_goes_on_after_the_last_event_that_was_read(client: httpx.Client, worker: FakeWorker) -> None:
    video_id = client.post("/v1/videos", json={"prompt": "a red ball"}).json()["id"]
    path = f"/v1/videos/{video_id}/events"
    with client.stream("GET", path) as answer:
        lines = answer.iter_lines()
        seen = next(line.removeprefix("id: ") for line in lines if line.startswith("id: "))
    worker.finish()

    with client.stream("GET", path, headers={"Last-Event-ID": seen}) as answer:
        lines = list(answer.iter_lines())

    assert [line for line in lines if line.startswith("event: ")] == ["event: completed"]
    end = next(line.removeprefix("id: ") for line in lines if line.startswith("id: "))
    assert client.get(path, headers={"Last-Event-ID": end}).status_code == 204


def test_nothing_is_told_twice(client: httpx.Client, worker: FakeWorker) -> None:
    video_id = client.post("/v1/videos", json={"prompt": "a red ball"}).json()["id"]
    path = f"/v1/videos/{video_id}/events"
    with client.stream("GET", path) as answer:
        seen = next(line.removeprefix("id: ") for line in answer.iter_lines() if line.startswith("id: "))

    with client.stream("GET", path, headers={"Last-Event-ID": seen}) as answer:
        assert next(answer.iter_lines()) == ": still here"


def test_a_running_video_shows_what_it_is_becoming(client: httpx.Client, worker: FakeWorker) -> None:
    video_id = client.post("/v1/videos", json={"prompt": "a red ball"}).json()["id"]
    lease = worker.claim().lease
    progress = Progress(stage="denoise", step=9, num_steps=20, percent=45)
    worker.queue.report(lease, progress, preview=b"a picture")

    with client.stream("GET", f"/v1/videos/{video_id}/events") as answer:
        name, shown = next(events_of(answer))

    assert (name, shown["step"]) == ("preview", 9)
    assert shown["image_url"] == "data:image/webp;base64," + b64encode(b"a picture").decode()
