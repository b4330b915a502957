"""Health, numbers, models, the schema and the page."""

import concurrent.futures
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest

from service.settings import Settings
from tests.service.api.conftest import FakeWorker, serving


def test_health_is_503_until_a_warm_worker_lives(
    client: httpx.Client, worker: FakeWorker, wait_until: Callable[..., None]
) -> None:
    wait_until(lambda: client.get("/health").status_code == 503)
    assert client.get("/health").json()["reasons"] == ["No worker with a warm model is alive."]

    worker.report_alive("wan2.2-t2v-embedded")

    wait_until(lambda: client.get("/health").status_code == 200)
    assert client.get("/health").json()["models"] == ["wan2.2-t2v-embedded"]


def test_ready_needs_no_worker(bare_client: httpx.Client) -> None:
    assert bare_client.get("/ready").status_code == 200
    assert bare_client.get("/liveness").json() == {"status": "ok", "service": "wanserve"}


def test_metrics_count_requests_by_route_and_the_queue(client: httpx.Client) -> None:
    video_id = client.post("/v1/videos", json={"prompt": "a red ball"}).json()["id"]
    client.get(f"/v1/videos/{video_id}")
    client.get("/nowhere")

    text = client.get("/metrics").text

    assert "wanserve_queue_depth 1.0" in text
    assert 'route="/videos/{video_id}"' in text
    assert video_id not in text
    assert "nowhere" not in text


def test_an_invented_method_is_counted_as_other(client: httpx.Client) -> None:
    client.request("MKCALENDAR", "/v1/videos")

    text = client.get("/metrics").text

    assert 'method="other"' in text
    assert "MKCALENDAR" not in text


def test_every_reply_has_a_request_id(client: httpx.Client) -> None:
    for path in ("/liveness", "/nowhere", "/v1/videos/video_nothing", "/"):
        assert client.get(path).headers["x-request-id"].startswith("req_")
    assert client.get("/liveness", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
    assert client.get("/liveness", headers={"x-request-id": "a b"}).headers["x-request-id"].startswith("req_")


def test_unknown_paths_and_methods_have_the_one_error_shape(client: httpx.Client) -> None:
    nothing, wrong = client.get("/v1/nowhere"), client.put("/v1/videos")

    assert (nothing.status_code, nothing.json()["error"]["code"]) == (404, "not_found")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")


def test_models_are_listed_from_cards(client: httpx.Client, worker: FakeWorker) -> None:
    worker.report_alive("wan2.2-t2v-embedded")

    [model] = client.get("/v1/models").json()["data"]

    assert (model["id"], model["object"], model["live_workers"]) == ("wan2.2-t2v-embedded", "model", 1)
    assert model["sizes"] == ["256x256", "384x256", "256x384"]
    assert client.get("/v1/models/embedded").json() == model


def test_an_unknown_model_is_404(client: httpx.Client) -> None:
    assert client.get("/v1/models/sora-2").json()["error"]["code"] == "model_not_found"


def test_the_schema_describes_bodies_and_errors(client: httpx.Client) -> None:
    schema = client.get("/openapi.json").json()

    post = schema["paths"]["/v1/videos"]["post"]
    assert set(post["requestBody"]["content"]) == {
        "application/json",
        "multipart/form-data",
        "application/x-www-form-urlencoded",
    }
    assert {"200", "400", "404", "413", "422", "503"} <= set(post["responses"])
    assert "Problem" in str(post["responses"]["400"])
    assert "/videos" not in schema["paths"]


def test_the_page_loads_nothing_from_elsewhere(client: httpx.Client) -> None:
    page = client.get("/")

    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "http://" not in page.text
    assert "https://" not in page.text
    for name in ("app.js", "client.js", "desk.js", "style.css", "icon.svg"):
        assert client.get(f"/console/{name}").status_code == 200
    assert client.get("/console/secret.txt").status_code == 400


@pytest.fixture
def cut_off(gateway_settings: Settings, free_port: Callable[[], int]) -> Iterator[httpx.Client]:
    """A gateway whose Redis and object store do not answer."""
    settings = gateway_settings.with_changes(
        port=free_port(), redis_url=f"redis://127.0.0.1:{free_port()}", s3_endpoint=f"http://127.0.0.1:{free_port()}"
    )
    with serving(settings), httpx.Client(base_url=f"http://127.0.0.1:{settings.port}", timeout=60) as client:
        yield client


def test_outages_are_503_with_reasons_and_never_500(cut_off: httpx.Client) -> None:
    assert cut_off.get("/liveness").status_code == 200
    for path in ("/health", "/ready"):
        answer = cut_off.get(path)
        assert answer.status_code == 503
        assert len(answer.json()["reasons"]) == 2
    for answer in (cut_off.get("/v1/videos"), cut_off.post("/v1/videos", json={"prompt": "a red ball"})):
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "queue_unavailable"
        assert answer.headers["Retry-After"]
    assert "wanserve_queue_up 0.0" in cut_off.get("/metrics").text


@pytest.fixture
def hanging(gateway_settings: Settings, free_port: Callable[[], int]) -> Iterator[httpx.Client]:
    """A gateway whose Redis and object store take connections and never say a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as hole:
        port = hole.getsockname()[1]
        settings = gateway_settings.with_changes(
            port=free_port(), redis_url=f"redis://127.0.0.1:{port}", s3_endpoint=f"http://127.0.0.1:{port}"
        )
        with serving(settings), httpx.Client(base_url=f"http://127.0.0.1:{settings.port}", timeout=20) as client:
            yield client
            # Whoever still waits hears that nobody is there.
            hole.close()


def test_probes_answer_while_the_stores_hang_and_every_thread_waits_for_them(hanging: httpx.Client) -> None:
    place = (hanging.base_url.host, hanging.base_url.port)
    with ExitStack() as stack, concurrent.futures.ThreadPoolExecutor(1) as pool:
        for _ in range(60):
            waiting = stack.enter_context(socket.create_connection(place))
            waiting.sendall(b"GET /v1/videos HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        health = pool.submit(hanging.get, "/health")
        liveness = hanging.get("/liveness")

        assert liveness.status_code == 200
        assert health.result().status_code == 503
        assert len(health.result().json()["reasons"]) == 2
        assert hanging.get("/ready").status_code == 503


def test_every_reply_keeps_browsers_from_leaking_or_keeping_it(client: httpx.Client) -> None:
    for path in ("/v1/videos", "/nowhere", "/", "/metrics"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers.get_list("referrer-policy") == ["no-referrer"]
    assert client.get("/v1/videos").headers["cache-control"] == "no-store"
    assert client.get("/").headers["cache-control"] == "no-cache"


def test_a_requests_id_goes_with_its_job_to_the_worker(client: httpx.Client, worker: FakeWorker) -> None:
    client.post("/v1/videos", json={"prompt": "a red ball"}, headers={"x-request-id": "mine-7"})

    assert worker.claim().payload.request_id == "mine-7"
