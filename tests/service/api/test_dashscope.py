"""/api/v1: DashScope's dialect, where its SDK does not look."""

from typing import Any

import httpx
import pytest

from tests.service.api.conftest import FakeWorker

PATH = "/api/v1/services/aigc/video-generation/video-synthesis"
ASYNC = {"X-DashScope-Async": "enable"}


def submit(client: httpx.Client, prompt: str = "a red ball", **parameters: Any) -> httpx.Response:
    body = {"model": "embedded", "input": {"prompt": prompt}, "parameters": parameters}
    return client.post(PATH, json=body, headers=ASYNC)


def task_id(client: httpx.Client, prompt: str = "a red ball") -> str:
    return str(submit(client, prompt).json()["output"]["task_id"])


def test_a_task_is_a_video(client: httpx.Client) -> None:
    answer = submit(client, size="832*480", duration=1, seed=7, num_inference_steps=9, guidance_scale=5.5)

    assert answer.status_code == 200
    assert answer.json()["output"]["task_status"] == "PENDING"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    video = client.get(f"/v1/videos/{answer.json()['output']['task_id']}").json()
    assert (video["size"], video["num_frames"], video["seed"]) == ("384x256", 9, 7)
    assert (video["num_inference_steps"], video["guidance_scale"]) == (9, 5.5)


def test_a_task_goes_from_pending_to_running_to_succeeded(client: httpx.Client, worker: FakeWorker) -> None:
    first, second = task_id(client, "one"), task_id(client, "two")
    pending = client.get(f"/api/v1/tasks/{first}").json()["output"]
    worker.finish(b"the file")
    worker.claim()
    succeeded, running = (client.get(f"/api/v1/tasks/{of_one}").json() for of_one in (first, second))

    assert set(pending) == {"task_id", "task_status", "submit_time", "orig_prompt"}
    assert pending["task_status"] == "PENDING"
    assert running["output"]["task_status"] == "RUNNING"
    assert "usage" not in running
    assert succeeded["output"]["task_status"] == "SUCCEEDED"
    assert succeeded["usage"] == {"video_count": 1, "video_duration": 2, "video_ratio": "256*256"}
    assert httpx.get(succeeded["output"]["video_url"]).content == b"the file"


def test_a_failed_task_says_why_with_200(client: httpx.Client, worker: FakeWorker) -> None:
    failed = task_id(client)
    worker.fail("out_of_memory", "Too little memory.")

    answer = client.get(f"/api/v1/tasks/{failed}")

    assert answer.status_code == 200
    output = answer.json()["output"]
    assert (output["task_status"], output["code"]) == ("FAILED", "InternalError")
    assert output["message"] == "Too little memory."


def test_only_a_pending_task_can_be_cancelled(client: httpx.Client, worker: FakeWorker) -> None:
    running, pending = task_id(client, "one"), task_id(client, "two")
    worker.claim()

    refused = client.post(f"/api/v1/tasks/{running}/cancel")

    assert (refused.status_code, refused.json()["code"]) == (409, "UnsupportedOperation")
    assert client.post(f"/api/v1/tasks/{pending}/cancel").status_code == 200
    assert client.get(f"/api/v1/tasks/{pending}").json()["output"]["task_status"] == "CANCELED"


def test_tasks_are_listed_by_pages_and_status(client: httpx.Client, worker: FakeWorker) -> None:
    ids = [task_id(client, f"ball {number}") for number in range(5)]
    worker.finish()

    second = client.get("/api/v1/tasks", params={"page_no": 2, "page_size": 2}).json()
    done = client.get("/api/v1/tasks", params={"status": "SUCCEEDED", "model_name": "embedded"}).json()

    assert [task["task_id"] for task in second["data"]] == ids[::-1][2:4]
    assert (second["total"], second["total_page"], second["page_no"]) == (5, 3, 2)
    assert [(task["task_id"], task["model_name"]) for task in done["data"]] == [(ids[0], "wan2.2-t2v-embedded")]
    assert done["data"][0]["gmt_create"] <= done["data"][0]["end_time"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"input": {"prompt": "a"}}, "model is missing"),
        ({"model": "embedded"}, "input is missing"),
        ({"model": "embedded", "input": "a red ball"}, "input:"),
        ({"model": "embedded", "input": {}}, "prompt is missing"),
        ({"model": "embedded", "input": {"prompt": " "}}, "prompt is empty"),
        ({"model": "embedded", "input": {"prompt": "a" * 801}}, "at most 800"),
        ({"model": "embedded", "input": {"prompt": "a", "negative_prompt": "b" * 501}}, "at most 500"),
        ({"model": "embedded", "input": {"prompt": "a", "media": [{"url": "x"}]}}, "input.media is not supported"),
        ({"model": "embedded", "input": {"prompt": "a"}, "parameters": {"seed": -1}}, "seed:"),
        ({"model": "embedded", "input": {"prompt": "a"}, "parameters": {"seed": 2**31}}, "seed:"),
        ({"model": "embedded", "input": {"prompt": "a"}, "parameters": {"duration": 0}}, "duration:"),
        ({"model": "embedded", "input": {"prompt": "a"}, "parameters": {"size": "large"}}, "size:"),
    ],
)
def test_a_bad_request_is_named(client: httpx.Client, body: dict[str, Any], said: str) -> None:
    answer = client.post(PATH, json=body, headers=ASYNC)

    assert answer.status_code == 400
    assert set(answer.json()) == {"code", "message", "request_id"}
    assert answer.json()["code"] == "InvalidParameter"
    assert said in answer.json()["message"]
    assert client.get("/v1/videos").json()["data"] == []


def test_other_refusals_have_dashscope_s_codes(client: httpx.Client) -> None:
    body = {"model": "embedded", "input": {"prompt": "a red ball"}}
    synchronous = client.post(PATH, json=body)
    key = client.post(PATH, json=body, headers=ASYNC | {"Authorization": "Bearer ws_wrong"})
    page = client.get("/api/v1/tasks?page_size=0")
    missing = client.post("/api/v1/tasks/nothing/cancel")
    moderated = submit(client, "a naked child")

    assert (synchronous.status_code, synchronous.json()["code"]) == (403, "AccessDenied")
    assert (key.status_code, key.json()["code"]) == (401, "InvalidApiKey")
    assert (page.status_code, page.json()["code"]) == (400, "InvalidParameter")
    assert (missing.status_code, missing.json()["code"]) == (404, "NotFound")
    assert (moderated.status_code, moderated.json()["code"]) == (400, "DataInspectionFailed")


def test_without_a_worker_clients_are_told_to_come_back(bare_client: httpx.Client) -> None:
    answer = submit(bare_client)

    assert (answer.status_code, answer.json()["code"]) == (503, "ServiceUnavailable")
    assert answer.headers["Retry-After"] == "5"
