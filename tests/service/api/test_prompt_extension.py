"""Prompts made richer by a language model, and every way in which it fails: then the prompt is taken as it was."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from redis import Redis

from service.jobs.card import ModelCard
from service.jobs.store import VideoStore
from service.settings import Settings
from tests.service.api.conftest import serving

PROMPT = "a red ball"
RICHER = "a glossy red ball bounces on a white floor, soft light from the left, the camera rests"
TIMEOUT_SECONDS = 1.0


def chat(text: str) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


@dataclass
class ChatServer:
    """Speaks as much of the chat shape as a test lets it."""

    address: str = ""
    status: int = 200
    body: bytes = chat(RICHER)
    waits_seconds: float = 0.0
    drips: bool = False
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


@pytest.fixture
def chat_server() -> Iterator[ChatServer]:
    state = ChatServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            state.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            state.headers.append(dict(self.headers))
            time.sleep(state.waits_seconds)
            self.send_response(state.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(state.body)))
            self.end_headers()
            try:
                self._send(state.body)
            except OSError:
                """The gateway has gone."""

        def _send(self, body: bytes) -> None:
            for place in range(0, len(body), 1 if state.drips else len(body) or 1):
                self.wfile.write(body[place : place + (1 if state.drips else len(body))])
                if state.drips:
                    time.sleep(0.2)

        def log_message(self, *_arguments: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    state.address = f"http://127.0.0.1:{server.server_port}/v1"
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def extending(
    gateway_settings: Settings,
    free_port: Callable[[], int],
    chat_server: ChatServer,
    redis: Redis,
    store: VideoStore,
    card: ModelCard,
) -> Iterator[httpx.Client]:
    """A client of a gateway that extends prompts, and knows a model."""
    store.register_card(card)
    settings = gateway_settings.with_changes(
        port=free_port(),
        prompt_extension_url=chat_server.address,
        prompt_extension_model="writer-7b",
        prompt_extension_key="sk-secret",
        prompt_extension_timeout_seconds=TIMEOUT_SECONDS,
    )
    address = f"http://127.0.0.1:{settings.port}"
    with serving(settings), httpx.Client(base_url=address, timeout=30, trust_env=False) as client:
        yield client


def post(client: httpx.Client, **fields: object) -> dict[str, Any]:
    answer = client.post("/v1/videos", json={"prompt": PROMPT, "extend_prompt": True, **fields})
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


def test_both_prompts_are_kept_and_the_richer_one_is_drawn(
    extending: httpx.Client, chat_server: ChatServer, store: VideoStore
) -> None:
    video = post(extending)

    assert (video["prompt"], video["extended_prompt"]) == (PROMPT, RICHER)
    assert extending.get(f"/v1/videos/{video['id']}").json()["extended_prompt"] == RICHER
    record = store.get(video["id"])
    assert (record.request.prompt, record.original_prompt) == (RICHER, PROMPT)
    [asked] = chat_server.asked
    assert (asked["model"], asked["messages"][1]) == ("writer-7b", {"role": "user", "content": PROMPT})
    assert chat_server.headers[0]["Authorization"] == "Bearer sk-secret"


def test_who_does_not_ask_for_it_gets_the_prompt_as_it_is(extending: httpx.Client, chat_server: ChatServer) -> None:
    video = post(extending, extend_prompt=False)

    assert (video["prompt"], video["extended_prompt"]) == (PROMPT, None)
    assert chat_server.asked == []


def test_the_same_prompt_is_the_same_video_and_nobody_is_asked_twice(
    extending: httpx.Client, chat_server: ChatServer, store: VideoStore
) -> None:
    headers = {"Idempotency-Key": "one"}
    body = {"prompt": PROMPT, "extend_prompt": True}
    first = extending.post("/v1/videos", json=body, headers=headers).json()
    chat_server.body = chat("something else")

    replayed = extending.post("/v1/videos", json=body, headers=headers).json()
    twin = post(extending)

    assert replayed["id"] == first["id"]
    assert twin["extended_prompt"] == RICHER
    assert store.get(twin["id"]).job_id == store.get(first["id"]).job_id
    assert len(chat_server.asked) == 1


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500},
        {"status": 401},
        {"status": 302},
        {"body": b""},
        {"body": b"<html>"},
        {"body": b"[]"},
        {"body": b'{"choices": []}'},
        {"body": b'{"choices": [{"message": {"content": null}}]}'},
        {"body": chat("   ")},
        {"body": chat("a ball " * 1000)},
        {"body": b" " * 10_000_000},
        {"waits_seconds": 3.0},
        {"drips": True},
        {"body": chat("hardcore porn")},
    ],
    ids=lambda fault: str(fault)[:40],
)
def test_whatever_is_wrong_with_it_the_video_is_made_of_the_prompt_as_it_is(
    extending: httpx.Client, chat_server: ChatServer, fault: dict[str, Any]
) -> None:
    for name, value in fault.items():
        setattr(chat_server, name, value)
    started = time.monotonic()

    video = post(extending)

    assert (video["prompt"], video["extended_prompt"]) == (PROMPT, None)
    assert time.monotonic() - started < TIMEOUT_SECONDS + 2
    assert len(chat_server.asked) == 1
    assert 'wanserve_prompt_extensions_total{outcome="' in extending.get("/metrics").text


def test_a_refused_prompt_is_sent_to_nobody(extending: httpx.Client, chat_server: ChatServer) -> None:
    for prompt in ("hardcore porn", "   "):
        refused = extending.post("/v1/videos", json={"prompt": prompt, "extend_prompt": True})
        assert refused.status_code == 400
    assert chat_server.asked == []


def test_a_remix_can_be_extended_too(extending: httpx.Client) -> None:
    first = post(extending, extend_prompt=False, seed=3)

    remix = extending.post(f"/v1/videos/{first['id']}/remix", json={"prompt": "a blue ball", "extend_prompt": True})

    assert (remix.json()["prompt"], remix.json()["extended_prompt"]) == ("a blue ball", RICHER)


def test_dashscopes_parameter_asks_for_it(extending: httpx.Client) -> None:
    body = {"model": "embedded", "input": {"prompt": PROMPT}, "parameters": {"prompt_extend": True}}
    answer = extending.post(
        "/api/v1/services/aigc/video-generation/video-synthesis", json=body, headers={"X-DashScope-Async": "enable"}
    )

    task = extending.get(f"/api/v1/tasks/{answer.json()['output']['task_id']}").json()["output"]
    assert task["orig_prompt"] == PROMPT
    assert extending.get(f"/v1/videos/{task['task_id']}").json()["extended_prompt"] == RICHER


def test_where_it_is_not_set_up_asking_for_it_says_so(client: httpx.Client) -> None:
    refused = client.post("/v1/videos", json={"prompt": PROMPT, "extend_prompt": True})

    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "extend_prompt")
    assert "WANSERVE_PROMPT_EXTENSION_URL" in refused.json()["error"]["message"]
