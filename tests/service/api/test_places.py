"""How many event streams may be open at once."""

from collections.abc import Callable
from contextlib import ExitStack

import httpx
import pytest

from service.api.places import StreamPlaces
from service.errors import TooManyStreams
from service.jobs.card import ModelCard
from service.jobs.store import VideoStore
from service.settings import Settings
from tests.service.api.conftest import serving


@pytest.fixture
def places() -> StreamPlaces:
    return StreamPlaces(max_streams=3, max_streams_by_tenant=2)


def test_a_tenant_has_its_own_limit_and_all_have_one_together(places: StreamPlaces) -> None:
    with places.place("a"), places.place("a"):
        with pytest.raises(TooManyStreams, match="2 event streams of yours"), places.place("a"):
            pass
        with places.place("b"), pytest.raises(TooManyStreams, match="3 event streams are"), places.place("c"):
            pass


def test_a_place_is_free_again_however_its_block_ends(places: StreamPlaces) -> None:
    for _ in range(5):
        with pytest.raises(ValueError, match="broken"), places.place("a"):
            raise ValueError("broken")


def test_a_stream_too_many_is_429_and_one_that_is_closed_makes_room(
    gateway_settings: Settings,
    free_port: Callable[[], int],
    store: VideoStore,
    card: ModelCard,
    wait_until: Callable[..., None],
) -> None:
    store.register_card(card)
    settings = gateway_settings.with_changes(port=free_port(), max_event_streams_by_tenant=2)
    with serving(settings), httpx.Client(base_url=f"http://127.0.0.1:{settings.port}", timeout=30) as client:
        video_id = client.post("/v1/videos", json={"prompt": "a red ball"}).json()["id"]
        path = f"/v1/videos/{video_id}/events"
        with ExitStack() as opened:
            for _ in range(2):
                assert opened.enter_context(client.stream("GET", path)).status_code == 200
            answer = client.get(path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (429, "too_many_streams")
            assert (answer.headers["Retry-After"], answer.headers["x-should-retry"]) == ("5", "true")

        def status() -> int:
            with client.stream("GET", path) as stream:
                return stream.status_code

        wait_until(lambda: status() == 200)
