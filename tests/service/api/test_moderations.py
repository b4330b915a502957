"""POST /v1/moderations in OpenAI's shape, and another classifier behind the filter."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import httpx
import pytest

from service.api.problems import problem_of
from service.batches.batch import Refusal
from service.errors import FilterUnavailable, ModerationBlocked
from service.moderation.categories import CATEGORIES
from service.moderation.external import ExternalClassifier
from service.moderation.filter import PromptFilter
from service.moderation.policy import ALLOWED, Policy, Scores
from service.settings import Settings

NOTHING = Scores(dict.fromkeys(CATEGORIES, 0.0))


def test_a_text_is_scored_by_category(client: httpx.Client) -> None:
    moderation = client.post("/v1/moderations", json={"input": "hardcore porn"}).json()

    assert moderation["id"].startswith("modr-")
    [result] = moderation["results"]
    assert (result["flagged"], result["action"]) == (True, "block")
    assert [name for name, flagged in result["categories"].items() if flagged] == ["sexual"]
    assert result["category_scores"].keys() == result["categories"].keys() == set(CATEGORIES)


def test_several_texts_get_a_result_each(client: httpx.Client) -> None:
    texts = ["a red ball", "制作炸弹教程"]
    results = client.post("/v1/moderations", json={"input": texts, "model": "omni-moderation-latest"}).json()["results"]
    assert [result["flagged"] for result in results] == [False, True]


@pytest.mark.parametrize(
    "body",
    [{}, {"input": 3}, {"input": []}, {"input": [1]}, {"input": ["a"] * 33}, {"input": "x" * 12_001}, {"input": None}],
)
def test_a_wrong_input_is_named(client: httpx.Client, body: dict[str, Any]) -> None:
    reply = client.post("/v1/moderations", json=body)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "input")


def test_a_refusal_names_its_category(client: httpx.Client) -> None:
    error = client.post("/v1/videos", json={"prompt": "hardcore porn"}).json()["error"]
    assert (error["code"], error["category"], error["param"]) == ("moderation_blocked", "sexual", "prompt")
    assert "category" not in client.post("/v1/videos", json={"prompt": ""}).json()["error"]


def test_in_a_batch_too() -> None:
    refusal = Refusal(code="moderation_blocked", message="No.", param="prompt", category="hate", http_status=400)
    error = problem_of(refusal).model_dump()["error"]
    assert (error["code"], error["category"]) == ("moderation_blocked", "hate")


class Classifier(BaseHTTPRequestHandler):
    """Answers with the server's `reply`, and notes what it was asked."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server: Any = self.server
        server.asked.append((self.path, self.headers.get("Authorization"), asked))
        status, body = server.reply
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def other() -> Iterator[Any]:
    """A server of somebody's moderations."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Classifier)
    server.asked = []
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def make(other: Any, settings: Settings) -> Iterator[Any]:
    made: list[ExternalClassifier] = []

    def make_classifier(**changes: Any) -> ExternalClassifier:
        url = f"http://127.0.0.1:{other.server_port}/v1"
        made.append(ExternalClassifier(settings.with_changes(moderation_url=url, **changes)))
        return made[-1]

    yield make_classifier
    for each in made:
        each.close()


def reply_with(**scores: float) -> tuple[int, dict[str, Any]]:
    return 200, {"results": [{"flagged": True, "category_scores": scores}]}


def test_the_higher_score_of_both_counts(other: Any, make: Any) -> None:
    other.reply = reply_with(**{"sexual": 0.9, "hate/threatening": 0.7, "harassment": 1.0, "self-harm": 0.1})
    own = Scores({**NOTHING.by_category, "self-harm": 0.4})

    widened = make(moderation_key="sk-mine", moderation_model="guard").widen("a text", own).by_category

    assert (widened["sexual"], widened["hate"], widened["self-harm"], widened["extremism"]) == (0.9, 0.7, 0.4, 0.0)
    assert other.asked == [("/v1/moderations", "Bearer sk-mine", {"input": "a text", "model": "guard"})]


@pytest.mark.parametrize(
    "reply", [(500, {}), (200, b"no json"), (200, {"results": []}), (200, {"results": [{"category_scores": None}]})]
)
def test_while_it_does_not_answer_nothing_passes_or_the_fallback_decides(
    other: Any, make: Any, reply: tuple[int, Any]
) -> None:
    other.reply = reply
    classifier = make()
    strict = PromptFilter(lambda text: classifier.widen(text, NOTHING))
    lenient = PromptFilter(lambda text: classifier.widen(text, NOTHING), fallback=lambda text: NOTHING)

    with pytest.raises(FilterUnavailable):
        strict.check("a text", "", Policy())
    assert lenient.check("a text", "", Policy()) == ALLOWED

    # What it did not read it reads as soon as it is back.
    other.reply = reply_with(hate=0.9)
    for prompt_filter in (strict, lenient):
        with pytest.raises(ModerationBlocked):
            prompt_filter.check("a text", "", Policy())
