"""GET /v1/videos/{id}/content."""

import httpx
import pytest

from tests.service.api.conftest import FakeWorker

CONTENT = bytes(range(256)) * 4096


@pytest.fixture
def path(client: httpx.Client, worker: FakeWorker) -> str:
    """The content of a completed video of a MiB."""
    video_id = client.post("/v1/videos", json={"prompt": "a red ball"}).json()["id"]
    worker.finish(CONTENT)
    return f"/v1/videos/{video_id}/content"


def test_the_whole_file_comes_with_its_type_and_name(client: httpx.Client, path: str) -> None:
    answer = client.get(path)

    assert answer.status_code == 200
    assert answer.content == CONTENT
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["content-length"] == str(len(CONTENT))
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-disposition"].endswith('.mp4"')


def test_a_range_is_answered_with_206(client: httpx.Client, path: str) -> None:
    answer = client.get(path, headers={"Range": "bytes=100-199"})

    assert answer.status_code == 206
    assert answer.content == CONTENT[100:200]
    assert answer.headers["content-range"] == f"bytes 100-199/{len(CONTENT)}"
    assert answer.headers["content-length"] == "100"


def test_the_last_bytes_can_be_asked_for(client: httpx.Client, path: str) -> None:
    assert client.get(path, headers={"Range": "bytes=-10"}).content == CONTENT[-10:]


def test_a_range_outside_the_file_is_416(client: httpx.Client, path: str) -> None:
    answer = client.get(path, headers={"Range": f"bytes={len(CONTENT)}-"})

    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{len(CONTENT)}"
    assert answer.json()["error"]["code"] == "range_not_satisfiable"


def test_head_tells_the_size_without_the_bytes(client: httpx.Client, path: str) -> None:
    answer = client.head(path)

    assert answer.status_code == 200
    assert answer.content == b""
    assert answer.headers["content-length"] == str(len(CONTENT))


def test_a_known_file_is_not_sent_again(client: httpx.Client, path: str) -> None:
    etag = client.head(path).headers["etag"]

    answer = client.get(path, headers={"If-None-Match": etag})

    assert answer.status_code == 304
    assert answer.content == b""


def test_a_range_of_another_file_gets_the_whole(client: httpx.Client, path: str) -> None:
    answer = client.get(path, headers={"Range": "bytes=0-9", "If-Range": '"another"'})

    assert answer.status_code == 200
    assert answer.content == CONTENT


def test_the_thumbnail_is_a_picture(client: httpx.Client, path: str) -> None:
    answer = client.get(path, params={"variant": "thumbnail"})

    assert answer.content == b"picture"
    assert answer.headers["content-type"] == "image/webp"


@pytest.mark.parametrize(("variant", "status"), [("spritesheet", 404), ("sound", 400)])
def test_a_variant_that_is_not_there_is_refused(client: httpx.Client, path: str, variant: str, status: int) -> None:
    answer = client.get(path, params={"variant": variant})

    assert answer.status_code == status
    assert answer.json()["error"]["param"] == "variant"


@pytest.mark.parametrize("change", [{"token": "forged"}, {"expires": "99999999999"}, {"variant": "thumbnail"}])
def test_a_forged_link_is_refused(client: httpx.Client, path: str, change: dict[str, str]) -> None:
    link = httpx.URL(client.get(path.removesuffix("/content")).json()["output"]["url"])

    assert client.get(link).status_code == 200
    assert client.get(link.copy_merge_params(change)).status_code == 403


def test_a_name_in_any_script_is_kept(client: httpx.Client, worker: FakeWorker) -> None:
    video_id = client.post("/v1/videos", json={"prompt": "红球", "file_name": "红球.mp4"}).json()["id"]
    worker.finish()

    disposition = client.get(f"/v1/videos/{video_id}/content").headers["content-disposition"]

    assert disposition == f"inline; filename=\"{video_id}.mp4\"; filename*=UTF-8''%E7%BA%A2%E7%90%83.mp4"


def test_a_file_in_the_making_is_409_with_its_status(client: httpx.Client, worker: FakeWorker) -> None:
    video_id = client.post("/v1/videos", json={"prompt": "a red ball"}).json()["id"]
    waiting = client.get(f"/v1/videos/{video_id}/content")
    worker.claim()
    running = client.get(f"/v1/videos/{video_id}/content")

    for answer, status in ((waiting, "queued"), (running, "in_progress")):
        assert answer.status_code == 409
        assert answer.json()["error"]["code"] == "video_not_ready"
        assert f"is {status}" in answer.json()["error"]["message"]
        assert answer.headers["x-should-retry"] == "false"


def test_a_file_in_the_making_says_when_to_ask_again(client: httpx.Client, worker: FakeWorker) -> None:
    video_id = client.post("/v1/videos", json={"prompt": "a red ball"}).json()["id"]
    unknown = client.get(f"/v1/videos/{video_id}/content").headers["Retry-After"]
    worker.report_alive("wan2.2-t2v-embedded")
    measured = client.get(f"/v1/videos/{video_id}/content").headers["Retry-After"]

    assert (unknown, measured) == ("5", "3")


def test_head_of_a_file_in_the_making_is_the_same_without_the_body(client: httpx.Client) -> None:
    video_id = client.post("/v1/videos", json={"prompt": "a red ball"}).json()["id"]

    answer = client.head(f"/v1/videos/{video_id}/content")

    assert answer.status_code == 409
    assert answer.headers["Retry-After"] == "5"
    assert answer.content == b""


def test_a_failed_video_has_no_file_and_says_why(client: httpx.Client, worker: FakeWorker) -> None:
    video_id = client.post("/v1/videos", json={"prompt": "a red ball"}).json()["id"]
    worker.fail("out_of_memory", "Too little memory.")

    answer = client.get(f"/v1/videos/{video_id}/content")

    assert answer.status_code == 409
    assert "Too little memory." in answer.json()["error"]["message"]
    assert "Retry-After" not in answer.headers


def test_a_lost_object_is_404_not_a_broken_stream(client: httpx.Client, worker: FakeWorker) -> None:
    video_id = client.post("/v1/videos", json={"prompt": "a red ball"}).json()["id"]
    worker.storage.delete([worker.finish()])

    answer = client.get(f"/v1/videos/{video_id}/content")

    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "file_not_found"
