"""Looking at videos, listing, cancelling and deleting them."""

from collections.abc import Callable

import httpx
import pytest
from redis import Redis

from service.errors import ObjectNotFound
from service.jobs.execution import Progress, Signal
from tests.service.api.conftest import FakeWorker


def post(client: httpx.Client, prompt: str = "a red ball") -> str:
    return str(client.post("/v1/videos", json={"prompt": prompt}).json()["id"])


def test_progress_shows_in_the_record(client: httpx.Client, worker: FakeWorker) -> None:
    video_id = post(client)
    lease = worker.claim().lease
    worker.queue.report(lease, Progress(stage="denoise", step=9, num_steps=20, percent=45))

    video = client.get(f"/v1/videos/{video_id}").json()

    assert (video["status"], video["progress"]) == ("in_progress", 45)
    assert (video["stage"], video["step"], video["num_steps"]) == ("denoise", 9, 20)
    assert video["queue_position"] is None


def test_a_live_worker_gives_an_estimate(client: httpx.Client, worker: FakeWorker) -> None:
    worker.report_alive("wan2.2-t2v-embedded")
    first, second = post(client, "one"), post(client, "two")

    assert client.get(f"/v1/videos/{first}").json()["eta_seconds"] == pytest.approx(3.0)
    assert client.get(f"/v1/videos/{second}").json()["eta_seconds"] == pytest.approx(6.0)


def test_polls_are_steered_by_what_is_left(client: httpx.Client, worker: FakeWorker) -> None:
    video_id = post(client)
    unknown = client.get(f"/v1/videos/{video_id}")
    worker.report_alive("wan2.2-t2v-embedded")
    seconds = client.get(f"/v1/videos/{video_id}")
    for number in range(9):
        post(client, f"ball {number}")
    half_a_minute = client.get(f"/v1/videos/{post(client, 'a long wait')}")
    worker.finish()
    ended = client.get(f"/v1/videos/{video_id}")

    waits = [answer.headers.get("openai-poll-after-ms") for answer in (unknown, seconds, half_a_minute, ended)]
    assert waits == ["1000", "500", "1650", None]


def test_a_completed_video_has_links_that_work(client: httpx.Client, worker: FakeWorker) -> None:
    video_id = post(client)
    worker.finish(b"the file")

    video = client.get(f"/v1/videos/{video_id}").json()

    assert (video["status"], video["progress"]) == ("completed", 100)
    assert video["stage_durations"] == {"denoise": 1.5}
    assert video["expires_at"] > video["completed_at"]
    assert video["url"] is None
    assert httpx.get(video["output"]["url"]).content == b"the file"
    assert httpx.get(video["output"]["thumbnail_url"]).content == b"picture"


def test_a_failed_video_is_answered_with_200(client: httpx.Client, worker: FakeWorker) -> None:
    video_id = post(client)
    worker.fail("out_of_memory", "The GPU has too little memory for this size.")

    answer = client.get(f"/v1/videos/{video_id}")

    assert answer.status_code == 200
    assert answer.json()["status"] == "failed"
    assert answer.json()["error"] == {
        "code": "out_of_memory",
        "message": "The GPU has too little memory for this size.",
    }
    assert answer.json()["completed_at"] is None


@pytest.mark.parametrize("path", ["", "/content", "/events"])
def test_an_unknown_id_is_404(client: httpx.Client, path: str) -> None:
    answer = client.get(f"/v1/videos/video_nothing{path}")

    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "video_not_found"


def test_pages_follow_each_other(client: httpx.Client) -> None:
    ids = [post(client, f"ball {number}") for number in range(5)]

    first = client.get("/v1/videos", params={"limit": 2}).json()
    second = client.get("/v1/videos", params={"limit": 2, "after": first["last_id"]}).json()
    third = client.get("/v1/videos", params={"limit": 2, "after": second["last_id"]}).json()

    assert [video["id"] for page in (first, second, third) for video in page["data"]] == ids[::-1]
    assert [page["has_more"] for page in (first, second, third)] == [True, True, False]
    assert (first["object"], first["first_id"]) == ("list", ids[-1])


def test_the_order_can_be_turned(client: httpx.Client) -> None:
    ids = [post(client, f"ball {number}") for number in range(3)]

    page = client.get("/v1/videos", params={"order": "asc"}).json()

    assert [video["id"] for video in page["data"]] == ids


def test_an_empty_list_has_no_ids(client: httpx.Client) -> None:
    assert client.get("/v1/videos").json() == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("order=up", "order"),
        ("after=video_nothing", "after"),
    ],
)
def test_a_wrong_query_is_named(client: httpx.Client, query: str, param: str) -> None:
    answer = client.get(f"/v1/videos?{query}")

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_a_cancelled_video_is_failed_with_the_code_cancelled(client: httpx.Client, worker: FakeWorker) -> None:
    video_id = post(client)
    lease = worker.claim().lease

    video = client.post(f"/v1/videos/{video_id}/cancel").json()

    assert (video["status"], video["error"]["code"]) == ("failed", "cancelled")
    assert worker.queue.renew([lease]) == [Signal.CANCEL]
    assert client.post(f"/v1/videos/{video_id}/cancel").status_code == 200


def test_a_completed_video_can_not_be_cancelled(client: httpx.Client, worker: FakeWorker) -> None:
    video_id = post(client)
    worker.finish()

    answer = client.post(f"/v1/videos/{video_id}/cancel")

    assert answer.status_code == 409
    assert answer.headers["x-should-retry"] == "false"


def test_a_deleted_video_is_gone_and_its_content_too(client: httpx.Client, worker: FakeWorker) -> None:
    video_id = post(client)
    worker.finish()

    answer = client.delete(f"/v1/videos/{video_id}")

    assert answer.json() == {"id": video_id, "object": "video.deleted", "deleted": True}
    assert client.get(f"/v1/videos/{video_id}").status_code == 404
    assert client.get(f"/v1/videos/{video_id}/content").status_code == 404
    assert client.delete(f"/v1/videos/{video_id}").status_code == 404
    assert client.get("/v1/videos").json()["data"] == []


def test_files_go_with_the_last_that_refers_to_them(
    client: httpx.Client, worker: FakeWorker, redis: Redis, wait_until: Callable[..., None]
) -> None:
    video_id = post(client)
    key = worker.finish()
    twin_id = post(client)
    # The cache entry refers to the files like a video.
    for digest in redis.zrange("wanserve:cache-expiring", 0, -1):
        redis.zadd("wanserve:cache-expiring", {digest: 1})
    wait_until(lambda: not redis.keys("wanserve:cache:*"))

    client.delete(f"/v1/videos/{video_id}")
    assert client.get(f"/v1/videos/{twin_id}/content").status_code == 200

    client.delete(f"/v1/videos/{twin_id}")
    wait_until(lambda: not redis.exists("wanserve:garbage"))
    with pytest.raises(ObjectNotFound):
        worker.storage.stat(key)


def test_deleting_a_running_video_cancels_it(client: httpx.Client, worker: FakeWorker) -> None:
    video_id = post(client)
    lease = worker.claim().lease

    assert client.delete(f"/v1/videos/{video_id}").status_code == 200
    assert worker.queue.renew([lease]) == [Signal.CANCEL]


def test_a_video_past_its_deadline_fails_by_itself(
    client: httpx.Client, redis: Redis, wait_until: Callable[..., None]
) -> None:
    body = {"prompt": "a red ball", "deadline_seconds": 60, "priority": "bulk"}
    video = client.post("/v1/videos", json=body).json()
    assert (video["deadline_seconds"], video["priority"]) == (60, "bulk")

    redis.zadd("wanserve:deadlines", {video["id"]: 1})

    wait_until(lambda: client.get(f"/v1/videos/{video['id']}").json()["status"] == "failed")
    assert client.get(f"/v1/videos/{video['id']}").json()["error"]["code"] == "deadline_exceeded"


def test_an_expired_video_is_gone_by_itself(
    client: httpx.Client, worker: FakeWorker, redis: Redis, wait_until: Callable[..., None]
) -> None:
    video_id = post(client)
    worker.finish()

    redis.zadd("wanserve:expiring", {video_id: 1})

    wait_until(lambda: client.get(f"/v1/videos/{video_id}").status_code == 404)
