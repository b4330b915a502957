"""Batches over HTTP, by the unmodified openai SDK: the gateway feeds them by itself."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from openai.types import Batch
from redis import Redis

from service.jobs.card import ModelCard
from service.jobs.connection import connect
from service.jobs.queue import JobQueue
from service.jobs.store import VideoStore
from service.settings import Settings
from service.storage import Storage
from service.tenants import Tenant, Tenants
from tests.service.api.conftest import FakeWorker, serving

WaitUntil = Callable[..., None]


@pytest.fixture
def sdk(client: httpx.Client, address: str, redis: Redis, wait_until: WaitUntil) -> Iterator[OpenAI]:
    """No batch goes on when the test has ended: it would submit its videos to the next one."""
    with OpenAI(base_url=f"{address}/v1", api_key="none needed", max_retries=0) as opened:
        yield opened
        for batch_id in redis.zrange("wanserve:batches:active", 0, -1):
            client.post(f"/v1/batches/{batch_id}/cancel")
        wait_until(lambda: redis.zcard("wanserve:batches:active") == 0)


def upload(sdk: OpenAI, *bodies: dict[str, object] | str) -> str:
    """A file with a line for each body, named after its place; text is a line as it is."""
    lines = [body if isinstance(body, str) else _line(number, body) for number, body in enumerate(bodies)]
    return sdk.files.create(file=("requests.jsonl", "\n".join(lines).encode()), purpose="batch").id


def create(sdk: OpenAI, *bodies: dict[str, object] | str) -> str:
    return sdk.batches.create(
        input_file_id=upload(sdk, *bodies), endpoint="/v1/videos", completion_window="24h", metadata={"order": "7"}
    ).id


def _line(number: int, body: dict[str, object]) -> str:
    return json.dumps({"custom_id": f"request-{number}", "method": "POST", "url": "/v1/videos", "body": body})


def lines_of(sdk: OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    return [json.loads(each) for each in sdk.files.content(file_id).text.splitlines()]


@pytest.fixture
def ended(sdk: OpenAI, worker: FakeWorker, wait_until: WaitUntil) -> Callable[[str], Batch]:
    """ended(batch_id) plays the worker until the batch has ended."""

    def work_on(batch_id: str) -> Batch:
        def has_ended() -> bool:
            while worker.queue.depth():
                worker.finish()
            return sdk.batches.retrieve(batch_id).status in ("completed", "failed", "expired", "cancelled")

        wait_until(has_ended)
        return sdk.batches.retrieve(batch_id)

    return work_on


def test_a_batch_is_made_and_leaves_a_line_for_each_request(
    sdk: OpenAI, client: httpx.Client, ended: Callable[[str], Batch]
) -> None:
    prompts = ["a red ball", "a blue ball", "a green ball"]
    batch_id = create(sdk, *({"prompt": prompt, "seed": 7, "metadata": {"n": prompt}} for prompt in prompts))

    batch = ended(batch_id)

    assert (batch.object, batch.status, batch.endpoint, batch.completion_window) == (
        "batch",
        "completed",
        "/v1/videos",
        "24h",
    )
    assert batch.metadata == {"order": "7"}
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": 3, "completed": 3, "failed": 0}
    assert batch.error_file_id is None
    assert batch.errors is None
    output = lines_of(sdk, batch.output_file_id)
    assert [each["custom_id"] for each in output] == ["request-0", "request-1", "request-2"]
    for each, prompt in zip(output, prompts, strict=True):
        video = each["response"]["body"]
        assert (video["object"], video["status"], video["prompt"], video["priority"]) == (
            "video",
            "completed",
            prompt,
            "bulk",
        )
        assert video["metadata"] == {"n": prompt}
        assert video["output"] is None
        assert client.get(f"/v1/videos/{video['id']}/content").content == b"0123456789"
    assert sdk.files.retrieve(batch.output_file_id or "").purpose == "batch_output"


def test_each_line_is_judged_as_a_post_of_its_own(sdk: OpenAI, ended: Callable[[str], Batch]) -> None:
    batch = ended(
        create(
            sdk,
            {"prompt": ""},
            {"prompt": "hardcore porn"},
            {"prompt": "a red ball", "model": "sora-2"},
            {"prompt": "a red ball", "input_reference": "x"},
            '{"custom_id": "nan", "method": "POST", "url": "/v1/videos", "body": {"prompt": "p", "seed": NaN}}',
            {"prompt": "a red ball", "webhook": {"url": "https://example.com/hook"}},
            {"prompt": "a red ball", "webhook": {"url": "http://10.0.0.1/", "secret": "whsec_" + "QUJD" * 11}},
            {"extra_body": {"prompt": "a red ball"}, "priority": "interactive"},
        )
    )

    errors = lines_of(sdk, batch.error_file_id)
    found = [(each["response"]["status_code"], each["error"]["code"], each["error"]["param"]) for each in errors]
    assert found == [
        (400, "invalid_request", "prompt"),
        (400, "moderation_blocked", "prompt"),
        (404, "model_not_found", "model"),
        (400, "invalid_request", "input_reference"),
        (400, "invalid_request", "seed"),
        (400, "invalid_request", "webhook"),
        (400, "invalid_request", "webhook.url"),
    ]
    assert all(each["response"]["body"]["error"]["code"] == each["error"]["code"] for each in errors)
    [made] = lines_of(sdk, batch.output_file_id)
    assert made["response"]["body"]["priority"] == "bulk"


def test_a_cancelled_batch_cancels_what_waits(
    sdk: OpenAI, ended: Callable[[str], Batch], worker: FakeWorker, wait_until: WaitUntil
) -> None:
    batch_id = create(sdk, *({"prompt": f"ball {number}"} for number in range(3)))
    wait_until(lambda: worker.queue.depth() == 3)
    worker.finish()

    assert sdk.batches.cancel(batch_id).status == "cancelling"
    wait_until(lambda: sdk.batches.retrieve(batch_id).status == "cancelled")

    batch = sdk.batches.retrieve(batch_id)
    assert worker.queue.depth() == 0
    assert batch.request_counts is not None
    assert (batch.request_counts.completed, batch.request_counts.failed) == (1, 2)
    assert [each["error"]["code"] for each in lines_of(sdk, batch.error_file_id)] == ["cancelled", "cancelled"]
    with pytest.raises(openai.ConflictError):
        sdk.batches.cancel(ended(create(sdk, {"prompt": "a ball"})).id)


def test_lists_have_pages(sdk: OpenAI) -> None:
    file_id = upload(sdk, {"prompt": "a ball"})
    ids = [
        sdk.batches.create(input_file_id=file_id, endpoint="/v1/videos", completion_window="24h").id for _ in range(5)
    ]

    assert [batch.id for batch in sdk.batches.list(limit=2)] == ids[::-1]


def test_a_batch_leaves_room_in_the_queue_for_what_somebody_waits_for(
    sdk: OpenAI, client: httpx.Client, redis: Redis, worker: FakeWorker, wait_until: WaitUntil
) -> None:
    Tenants(redis).create(Tenant(name="default", max_queued=4))
    batch_id = create(sdk, *({"prompt": f"ball {number}"} for number in range(9)))
    wait_until(lambda: worker.queue.depth() == 2)

    for number in range(2):
        assert client.post("/v1/videos", json={"prompt": f"by hand {number}"}).status_code == 200
    assert worker.claim().payload.request.prompt.startswith("by hand")
    assert sdk.batches.retrieve(batch_id).status == "in_progress"


@pytest.mark.parametrize(
    ("changes", "status", "param"),
    [
        ({"input_file_id": "file_x"}, 404, "input_file_id"),
        ({"input_file_id": None}, 400, "input_file_id"),
        ({"input_file_id": 7}, 400, "input_file_id"),
        ({"input_file_id": "x" * 1000}, 400, "input_file_id"),
        ({"endpoint": "/v1/chat/completions"}, 400, "endpoint"),
        ({"endpoint": None}, 400, "endpoint"),
        ({"completion_window": "1d"}, 400, "completion_window"),
        ({"completion_window": "0h"}, 400, "completion_window"),
        ({"completion_window": "999h"}, 400, "completion_window"),
        ({"metadata": {"a": 1}}, 400, "metadata"),
        ({"metadata": {"a": "b" * 513}}, 400, "metadata"),
        ({"metadata": {str(number): "" for number in range(17)}}, 400, "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, 400, "output_expires_after"),
    ],
)
def test_what_is_no_batch_is_refused_and_leaves_nothing(
    client: httpx.Client, sdk: OpenAI, redis: Redis, changes: dict[str, object], status: int, param: str
) -> None:
    body = {"input_file_id": upload(sdk, {"prompt": "a ball"}), "endpoint": "/v1/videos", "completion_window": "24h"}

    answer = client.post("/v1/batches", json=body | changes)

    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), answer.text
    assert redis.keys("wanserve:batch:*") == []
    assert redis.zcard("wanserve:batches:active") == 0


def test_what_a_batch_wrote_is_no_input(sdk: OpenAI, ended: Callable[[str], Batch]) -> None:
    written = ended(create(sdk, {"prompt": "a ball"})).output_file_id

    with pytest.raises(openai.BadRequestError) as error:
        sdk.batches.create(input_file_id=str(written), endpoint="/v1/videos", completion_window="24h")

    assert error.value.param == "input_file_id"


def test_an_unknown_batch_is_not_found(sdk: OpenAI) -> None:
    for ask in (sdk.batches.retrieve, sdk.batches.cancel):
        with pytest.raises(openai.NotFoundError) as error:
            ask("batch_x")
        assert error.value.code == "batch_not_found"


def test_a_batch_goes_on_when_its_gateway_comes_back(
    gateway_settings: Settings,
    gateway_storage: Storage,
    card: ModelCard,
    free_port: Callable[[], int],
    tmp_path: Path,
    wait_until: WaitUntil,
) -> None:
    """In a database of its own: other gateways would feed the batch too."""
    place, _, _ = (gateway_settings.redis_url or "").rpartition("/")
    settings = gateway_settings.with_changes(port=free_port(), redis_url=f"{place}/3", batch_jobs=2)
    with (
        connect(f"{place}/3") as redis,
        OpenAI(base_url=f"http://127.0.0.1:{settings.port}/v1", api_key="none needed") as sdk,
    ):
        redis.flushdb()
        worker = FakeWorker(VideoStore(redis), JobQueue(redis, settings), gateway_storage, tmp_path)
        worker.store.register_card(card)
        with serving(settings):
            batch_id = create(sdk, *({"prompt": f"ball {number}"} for number in range(6)))
            wait_until(lambda: worker.queue.depth() == 2)
        for _ in range(2):
            with serving(settings):
                wait_until(lambda: worker.queue.depth() == 2)
            worker.finish()
            worker.finish()
        with serving(settings):
            wait_until(lambda: worker.queue.depth() == 2)
            worker.finish()
            worker.finish()
            wait_until(lambda: sdk.batches.retrieve(batch_id).status == "completed")
            output = lines_of(sdk, sdk.batches.retrieve(batch_id).output_file_id)

        assert [each["custom_id"] for each in output] == [f"request-{number}" for number in range(6)]
        assert len(redis.keys("rq:job:job_*")) == 6
