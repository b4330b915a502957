"""The unmodified openai SDK's files and batches against a whole `wanserve up`."""

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import av
import openai
import pytest
from openai import OpenAI


@pytest.fixture(scope="module")
def client(up_address: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{up_address}/v1", api_key="none needed") as opened:
        yield opened


def line(custom_id: str, **body: object) -> str:
    fields = {"prompt": f"a red circle {custom_id}", "num_inference_steps": 4, "num_frames": 5} | body
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": "/v1/videos", "body": fields})


def lines_of(client: OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    return [json.loads(each) for each in client.files.content(file_id).iter_lines()]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_from_a_file_to_videos(client: OpenAI, wait_until: Callable[..., None]) -> None:
    lines = [line("one", seed=1), line("bad", num_frames=-1), "no JSON", line("two", seed=2), line("one", seed=3)]
    file = client.files.create(file=("films.jsonl", "\n".join(lines).encode()), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/videos", completion_window="24h", metadata={"campaign": "7"}
    )
    assert batch.status == "validating"
    with pytest.raises(openai.ConflictError):
        client.with_options(max_retries=0).files.delete(file.id)

    wait_until(lambda: client.batches.retrieve(batch.id).status == "completed", seconds=300)

    batch = client.batches.retrieve(batch.id)
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": 5, "completed": 2, "failed": 3}
    assert batch.metadata == {"campaign": "7"}
    output, errors = lines_of(client, batch.output_file_id), lines_of(client, batch.error_file_id)
    assert [each["custom_id"] for each in output] == ["one", "two"]
    assert [each["custom_id"] for each in errors] == ["bad", None, "one"]
    assert {each["response"]["status_code"] for each in errors} == {400}
    for each in output:
        content = client.videos.download_content(each["response"]["body"]["id"]).read()
        with av.open(io.BytesIO(content)) as container:
            assert len(list(container.decode(video=0))) == 5
    assert batch.id in [known.id for known in client.batches.list(limit=1)]
    for known in client.files.list(limit=1):
        assert client.files.delete(known.id).deleted
    assert list(client.files.list()) == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_cancel_stops_what_waits_and_runs(client: OpenAI, wait_until: Callable[..., None]) -> None:
    lines = [line(str(number), num_inference_steps=100, seed=-1) for number in range(4)]
    file = client.files.create(file=("films.jsonl", "\n".join(lines).encode()), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/videos", completion_window="24h")
    wait_until(lambda: client.batches.retrieve(batch.id).status == "in_progress")
    wait_until(lambda: len(list(client.videos.list())) >= 4)

    client.batches.cancel(batch.id)
    wait_until(lambda: client.batches.retrieve(batch.id).status == "cancelled")

    batch = client.batches.retrieve(batch.id)
    assert batch.request_counts is not None
    assert batch.request_counts.completed + batch.request_counts.failed == 4
    assert {video.status for video in client.videos.list()} <= {"completed", "failed"}
