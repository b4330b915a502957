"""POST /v1/videos/{id}/remix, and what else the OpenAI surface has that a text-to-video model can't do."""

import httpx
import pytest

from tests.service.api.conftest import FakeWorker

PARAMETERS = (
    "size",
    "native_size",
    "num_frames",
    "fps",
    "seconds",
    "seed",
    "negative_prompt",
    "num_inference_steps",
    "guidance_scale",
    "guidance_scale_2",
    "flow_shift",
)


@pytest.fixture
def original(client: httpx.Client) -> dict[str, object]:
    fields = {"size": "384x256", "num_frames": 9, "negative_prompt": "blur", "flow_shift": 4, "quality": "draft"}
    video = client.post("/v1/videos", json={"prompt": "a red ball", "guidance_scale": 5.5, **fields}).json()
    assert video["quality"] == "draft"
    return dict(video)


def test_a_remix_has_the_originals_parameters_and_another_prompt(
    client: httpx.Client, original: dict[str, object]
) -> None:
    answer = client.post(f"/v1/videos/{original['id']}/remix", json={"prompt": "a blue star"})

    assert answer.status_code == 200
    remix = answer.json()
    assert remix["id"] != original["id"]
    assert (remix["prompt"], remix["remixed_from_video_id"]) == ("a blue star", original["id"])
    assert {name: remix[name] for name in PARAMETERS} == {name: original[name] for name in PARAMETERS}
    assert client.get(f"/v1/videos/{remix['id']}").json()["remixed_from_video_id"] == original["id"]


def test_a_completed_original_and_a_deleted_one_change_nothing_about_the_remix(
    client: httpx.Client, original: dict[str, object], worker: FakeWorker
) -> None:
    worker.finish()
    remix = client.post(f"/v1/videos/{original['id']}/remix", json={"prompt": "a blue star"}).json()

    client.delete(f"/v1/videos/{original['id']}")

    assert client.get(f"/v1/videos/{remix['id']}").json()["remixed_from_video_id"] == original["id"]
    assert client.post(f"/v1/videos/{original['id']}/remix", json={"prompt": "a star"}).status_code == 404


def test_a_remix_takes_what_changes_no_pixel(client: httpx.Client, original: dict[str, object]) -> None:
    body = {"prompt": "a blue star", "metadata": {"order": "7"}, "priority": "bulk", "colour": "red"}

    remix = client.post(f"/v1/videos/{original['id']}/remix", json=body).json()

    assert (remix["metadata"], remix["priority"], remix["ignored"]) == ({"order": "7"}, "bulk", ["colour"])


def test_a_repeated_key_is_one_remix(client: httpx.Client, original: dict[str, object]) -> None:
    def remix(video_id: object, prompt: str) -> httpx.Response:
        headers = {"Idempotency-Key": "remix-1"}
        return client.post(f"/v1/videos/{video_id}/remix", json={"prompt": prompt}, headers=headers)

    first = remix(original["id"], "a blue star").json()

    assert remix(original["id"], "a blue star").json()["id"] == first["id"]
    assert remix(first["id"], "a blue star").status_code == 422


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({}, "prompt", "invalid_request"),
        ({"prompt": " "}, "prompt", "invalid_request"),
        ({"prompt": "a naked child"}, "prompt", "moderation_blocked"),
        ({"prompt": "a star", "seed": 5}, "seed", "invalid_request"),
        ({"prompt": "a star", "size": "64x64"}, "size", "invalid_request"),
        ({"prompt": "a star", "model": "other"}, "model", "invalid_request"),
        ({"prompt": "a star", "input_reference": "x"}, "input_reference", "invalid_request"),
    ],
)
def test_a_bad_remix_is_named_and_leaves_nothing(
    client: httpx.Client, original: dict[str, object], body: dict[str, object], param: str, code: str
) -> None:
    answer = client.post(f"/v1/videos/{original['id']}/remix", json=body)

    assert answer.status_code == 400
    assert (answer.json()["error"]["param"], answer.json()["error"]["code"]) == (param, code)
    assert [video["id"] for video in client.get("/v1/videos").json()["data"]] == [original["id"]]


def test_a_remix_of_nothing_is_404(client: httpx.Client) -> None:
    answer = client.post("/v1/videos/video_nothing/remix", json={"prompt": "a star"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "video_not_found")


@pytest.mark.parametrize("name", ["edits", "extensions", "characters"])
def test_what_needs_a_picture_or_a_video_is_refused(client: httpx.Client, name: str) -> None:
    answer = client.post(f"/v1/videos/{name}", json={"prompt": "a red ball", "video": {"id": "video_x"}})

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "not_supported")
    assert "from text alone" in answer.json()["error"]["message"]
