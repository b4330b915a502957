"""POST /v1/videos: what is accepted, snapped and refused."""

import concurrent.futures
import json
from typing import Any

import httpx
import openai
import pytest

from service.jobs.card import ModelCard
from service.jobs.queue import JobQueue
from service.jobs.store import VideoStore
from tests.service.api.conftest import FakeWorker

JSON = {"Content-Type": "application/json"}


def test_a_prompt_is_queued_and_answered_with_200_and_its_effective_values(client: httpx.Client) -> None:
    answer = client.post("/v1/videos", json={"prompt": "a red ball"})

    assert answer.status_code == 200
    assert answer.headers["openai-poll-after-ms"] == "1000"
    video = answer.json()
    assert video["id"].startswith("video_")
    assert (video["object"], video["status"], video["progress"]) == ("video", "queued", 0)
    assert (video["size"], video["native_size"], video["seconds"]) == ("256x256", "64x64", "2")
    assert (video["num_frames"], video["fps"], video["num_inference_steps"]) == (17, 8, 20)
    assert video["queue_position"] == 0
    assert video["url"] is None
    assert isinstance(video["seed"], int)


def test_a_request_for_the_big_model_is_snapped_and_says_so(client: httpx.Client) -> None:
    asked = {
        "prompt": "一只红色的球在蓝色背景上弹跳",
        "size": "720x1280",
        "num_frames": 32,
        "fps": 8,
        "guidance_scale": 9.0,
        "num_inference_steps": 50,
    }

    answer = client.post("/v1/videos", json=asked)

    assert answer.status_code == 200
    video = answer.json()
    assert video["prompt"] == asked["prompt"]
    assert (video["width"], video["height"], video["num_frames"]) == (256, 384, 17)
    assert (video["guidance_scale"], video["num_inference_steps"]) == (9.0, 50)
    assert video["adjusted"]["num_frames"] == {"requested": 32, "used": 17}
    assert video["adjusted"]["width"] == {"requested": 720, "used": 256}


def test_strict_refuses_what_would_be_snapped(client: httpx.Client) -> None:
    answer = client.post("/v1/videos", json={"prompt": "a red ball", "num_frames": 32, "strict": True})

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "num_frames"


def test_unknown_fields_are_listed(client: httpx.Client) -> None:
    video = client.post("/v1/videos", json={"prompt": "a red ball", "user": "x", "enhance": True}).json()

    assert video["ignored"] == ["enhance", "user"]
    assert client.get(f"/v1/videos/{video['id']}").json()["ignored"] == ["enhance", "user"]


@pytest.mark.parametrize(
    "encoded",
    [
        {"json": {"prompt": "红球", "seed": 7, "metadata": {"a": "b"}}},
        {"data": {"prompt": "红球", "seed": "7", "metadata[a]": "b"}},
        {"data": {"prompt": "红球", "seed": "7", "metadata": '{"a": "b"}'}},
        {"files": {"prompt": (None, "红球"), "seed": (None, "7"), "metadata[a]": (None, "b")}},
        {"json": {"prompt": "红球", "extra_body": {"seed": 7, "metadata": {"a": "b"}}}},
    ],
    ids=["json", "urlencoded", "json text", "multipart", "extra_body"],
)
def test_every_encoding_says_the_same(client: httpx.Client, encoded: dict[str, Any]) -> None:
    video = client.post("/v1/videos", **encoded).json()

    assert (video["prompt"], video["seed"], video["metadata"]) == ("红球", 7, {"a": "b"})
    assert video["ignored"] == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_openai_sdk_may_send_nothing_but_a_prompt(client: httpx.Client) -> None:
    with openai.OpenAI(base_url=f"{client.base_url}/v1", api_key="none", max_retries=0) as sdk:
        sent = sdk.videos.with_raw_response.create(prompt="红球")

    assert sent.http_request.headers["content-type"].startswith("multipart/form-data")
    video = sent.parse()
    assert (video.status, video.prompt, video.model) == ("queued", "红球", "wan2.2-t2v-embedded")


def test_the_root_takes_requests_too(client: httpx.Client) -> None:
    video = client.post("/videos", json={"prompt": "a red ball"}).json()

    assert client.get(f"/videos/{video['id']}").json()["id"] == video["id"]


BAD_FIELDS = [
    ({}, "prompt"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": " \n "}, "prompt"),
    ({"prompt": "x" * 10_000}, "prompt"),
    ({"prompt": 5}, "prompt"),
    ({"prompt": None}, "prompt"),
    ({"prompt": ["a"]}, "prompt"),
    ({"prompt": "a\x00b"}, "prompt"),
    ({"prompt": "\ud800"}, "prompt"),
    ({"negative_prompt": "x" * 10_000}, "negative_prompt"),
    ({"negative_prompt": 1}, "negative_prompt"),
    ({"model": 3}, "model"),
    ({"size": "big"}, "size"),
    ({"size": "0x0"}, "size"),
    ({"size": "100000x100000"}, "size"),
    ({"size": 256}, "size"),
    ({"width": 0, "height": 64}, "width"),
    ({"width": 99999, "height": 64}, "width"),
    ({"width": 64}, "height"),
    ({"width": 64.5, "height": 64}, "width"),
    ({"num_frames": 0}, "num_frames"),
    ({"num_frames": -1}, "num_frames"),
    ({"num_frames": 10**9}, "num_frames"),
    ({"num_frames": "many"}, "num_frames"),
    ({"num_frames": True}, "num_frames"),
    ({"seconds": 0}, "seconds"),
    ({"seconds": "x"}, "seconds"),
    ({"seconds": 1, "num_frames": 17}, "seconds"),
    ({"fps": 0}, "fps"),
    ({"fps": 1000}, "fps"),
    ({"num_inference_steps": 0}, "num_inference_steps"),
    ({"num_inference_steps": 10**6}, "num_inference_steps"),
    ({"guidance_scale": -1}, "guidance_scale"),
    ({"guidance_scale": "NaN"}, "guidance_scale"),
    ({"guidance_scale_2": [1]}, "guidance_scale_2"),
    ({"flow_shift": 0}, "flow_shift"),
    ({"seed": 1.5}, "seed"),
    ({"seed": 2**64}, "seed"),
    ({"seed": -2}, "seed"),
    ({"seed": "seven"}, "seed"),
    ({"quality": "best"}, "quality"),
    ({"strict": "perhaps"}, "strict"),
    ({"metadata": "text"}, "metadata"),
    ({"metadata": {"a": 1}}, "metadata"),
    ({"metadata": {str(i): "x" for i in range(17)}}, "metadata"),
    ({"file_name": "../../etc/passwd"}, "file_name"),
    ({"input_reference": "data:image/png;base64,xx"}, "input_reference"),
    ({"deep": json.loads("[" * 20 + "]" * 20)}, "deep"),
]


@pytest.mark.parametrize(("wrong", "param"), BAD_FIELDS)
def test_a_wrong_field_is_named(client: httpx.Client, queue: JobQueue, wrong: dict[str, Any], param: str) -> None:
    body = json.dumps({"prompt": "a red ball", **wrong} if wrong else {})

    answer = client.post("/v1/videos", content=body, headers=JSON)

    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert answer.json()["detail"] == error["message"]
    assert queue.depth() == 0


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_json_does_not_have_are_refused(client: httpx.Client, number: str) -> None:
    body = f'{{"prompt": "a red ball", "guidance_scale": {number}}}'

    answer = client.post("/v1/videos", content=body, headers=JSON)

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "guidance_scale"


@pytest.mark.parametrize(
    ("body", "content_type", "param"),
    [
        (b'{"prompt": ', "application/json", "body"),
        (b"[]", "application/json", "body"),
        (b"", "application/json", "body"),
        (b"\xff", "application/json", "body"),
        (b"[" * 50_000, "application/json", "body"),
        (b'{"prompt": "a"}', "text/plain", "Content-Type"),
        (b'{"prompt": "a"}', "application/x-www-form-urlencoded", "Content-Type"),
        (b"prompt=%ff", "application/x-www-form-urlencoded", "body"),
        (b"x", "multipart/form-data", "body"),
        (b"x", "multipart/form-data; boundary=b", "body"),
    ],
)
def test_a_malformed_body_is_refused(client: httpx.Client, body: bytes, content_type: str, param: str) -> None:
    answer = client.post("/v1/videos", content=body, headers={"Content-Type": content_type})

    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param


def test_a_picture_is_refused_with_the_reason(client: httpx.Client) -> None:
    picture = {"input_reference": ("a.png", b"x" * 2_000_000, "image/png")}

    answer = client.post("/v1/videos", data={"prompt": "a red ball"}, files=picture)

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "input_reference"
    assert "not supported" in answer.json()["error"]["message"]


def test_a_body_that_is_too_large_is_refused(client: httpx.Client) -> None:
    answer = client.post("/v1/videos", json={"prompt": "a red ball", "padding": "x" * 2_000_000})

    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "body_too_large"


def test_a_body_without_a_length_is_limited_too(client: httpx.Client) -> None:
    def chunks() -> Any:
        for _ in range(40):
            yield b" " * 50_000

    assert client.post("/v1/videos", content=chunks(), headers=JSON).status_code == 413


def test_an_unknown_model_is_404(client: httpx.Client) -> None:
    answer = client.post("/v1/videos", json={"prompt": "a red ball", "model": "sora-2"})

    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"
    assert answer.json()["error"]["param"] == "model"


def test_a_model_is_known_by_its_alias(client: httpx.Client) -> None:
    video = client.post("/v1/videos", json={"prompt": "a red ball", "model": "Embedded"}).json()

    assert video["model"] == "wan2.2-t2v-embedded"


def test_before_any_worker_was_seen_the_answer_is_503(bare_client: httpx.Client) -> None:
    answer = bare_client.post("/v1/videos", json={"prompt": "a red ball"})

    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "no_model"
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.headers["x-should-retry"] == "true"


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
def test_a_blocked_prompt_is_refused_without_repeating_it(client: httpx.Client, queue: JobQueue, field: str) -> None:
    answer = client.post("/v1/videos", json={"prompt": "a red ball", field: "child porn"})

    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("moderation_blocked", field)
    assert "porn" not in error["message"]
    assert queue.depth() == 0


def test_a_repeated_key_is_the_same_video(client: httpx.Client, queue: JobQueue) -> None:
    headers = {"Idempotency-Key": "k1"}

    first = client.post("/v1/videos", json={"prompt": "a red ball", "seed": -1}, headers=headers).json()
    second = client.post("/v1/videos", json={"seed": -1, "prompt": "a red ball"}, headers=headers).json()

    assert second["id"] == first["id"]
    assert second["seed"] == first["seed"]
    assert queue.depth() == 1


def test_a_key_with_another_body_is_422(client: httpx.Client) -> None:
    headers = {"Idempotency-Key": "k1"}
    client.post("/v1/videos", json={"prompt": "a red ball"}, headers=headers)

    answer = client.post("/v1/videos", json={"prompt": "a blue ball"}, headers=headers)

    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "idempotency_key_reused"


def test_many_posts_with_one_key_queue_one_job(client: httpx.Client, queue: JobQueue) -> None:
    def post(_: int) -> str:
        answer = client.post("/v1/videos", json={"prompt": "a red ball"}, headers={"Idempotency-Key": "k"})
        return str(answer.json()["id"])

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(post, range(16)))

    assert len(ids) == 1
    assert queue.depth() == 1


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_of_the_wrong_length_is_refused(client: httpx.Client, key: str) -> None:
    answer = client.post("/v1/videos", json={"prompt": "a red ball"}, headers={"Idempotency-Key": key})

    assert answer.status_code == 400
    assert answer.json()["error"]["param"].lower() == "idempotency-key"


def test_an_identical_request_is_answered_from_the_cache(client: httpx.Client, worker: FakeWorker) -> None:
    client.post("/v1/videos", json={"prompt": "a red ball"})
    worker.finish(b"the file")

    video = client.post("/v1/videos", json={"prompt": "a red  ball "}).json()

    assert (video["status"], video["progress"], video["cached"]) == ("completed", 100, True)
    assert client.get(f"/v1/videos/{video['id']}/content").content == b"the file"


def test_a_model_that_changed_since_the_last_request_is_noticed(
    client: httpx.Client, store: VideoStore, card: ModelCard
) -> None:
    large = {"prompt": "a red ball", "size": "512x512"}
    assert client.post("/v1/videos", json=large).json()["native_size"] == "64x64"
    store.register_card(card.model_copy(update={"native_sizes": ((128, 128),), "fingerprint": "0" * 64}))
    assert client.post("/v1/videos", json=large).json()["native_size"] == "128x128"


def test_what_the_last_fleet_could_not_make_a_new_one_may(
    client: httpx.Client, store: VideoStore, card: ModelCard
) -> None:
    client.post("/v1/videos", json={"prompt": "a red ball"}).raise_for_status()
    store.register_card(card.model_copy(update={"id": "another", "aliases": ()}))
    answer = client.post("/v1/videos", json={"prompt": "a red ball", "model": "another"})
    assert answer.json()["model"] == "another"


def test_a_prompt_that_was_read_before_is_queued_without_a_thread(
    client: httpx.Client, queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(*_: object) -> None:
        raise AssertionError("all of it was known")

    asked = {"prompt": "a red ball that was seen before", "seed": -1}
    # The first one reads the prompt, and asks for models and memory.
    assert client.post("/v1/videos", json=asked).status_code == 200
    monkeypatch.setattr("service.api.orders.accept", no_thread)
    answer = client.post("/v1/videos", json=asked)
    assert (answer.status_code, answer.json()["status"]) == (200, "queued")
    assert queue.depth() == 2


def test_a_long_body_is_worked_through_on_a_thread_and_answered_alike(client: httpx.Client) -> None:
    asked = {"prompt": "a red ball", "seed": 7, **{f"unknown_{number}": "x" * 100 for number in range(400)}}
    answer = client.post("/v1/videos", json=asked)
    assert answer.status_code == 200
    assert len(answer.json()["ignored"]) == 400
    refused = client.post("/v1/videos", json={**asked, "prompt": ""})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "prompt")
