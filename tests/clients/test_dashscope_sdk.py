"""The unmodified dashscope SDK, as users of Wan's cloud API have it, against a whole `wanserve up`."""

import io
import subprocess
import sys
from collections.abc import Iterator
from http import HTTPStatus

import av
import dashscope
import httpx
import pytest
from dashscope import VideoSynthesis

from service.settings import Settings

MODEL = "wan2.2-t2v-plus"
PROMPT = "a yellow star moves to the right on a purple background"


@pytest.fixture(autouse=True)
def sdk(up_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashscope, "base_http_api_url", f"{up_address}/api/v1")
    monkeypatch.setattr(dashscope, "api_key", "none needed")


@pytest.fixture
def paused(up_address: str, up_settings: Settings) -> Iterator[None]:
    """Whatever is submitted now has to wait."""
    command = [sys.executable, "-m", "service.cli", "queue"]
    environment = up_settings.child_environment()
    subprocess.run([*command, "pause", "standard"], env=environment, check=True, timeout=60)
    yield
    subprocess.run([*command, "resume", "standard"], env=environment, check=True, timeout=60)


def test_call_waits_for_a_video_that_plays() -> None:
    answer = VideoSynthesis.call(
        MODEL,
        PROMPT,
        negative_prompt="blurry",
        size="832*480",
        duration=2,
        seed=3,
        prompt_extend=True,
        watermark=True,
        num_inference_steps=6,
    )

    assert answer.status_code == HTTPStatus.OK
    output, usage = answer.output, answer.usage
    assert output.task_status == "SUCCEEDED"
    assert (output.orig_prompt, output.actual_prompt) == (PROMPT, PROMPT)
    assert output.submit_time <= output.scheduled_time <= output.end_time
    assert (usage.video_count, usage.video_duration, usage.video_ratio) == (1, 2, "256*256")
    content = httpx.get(output.video_url, trust_env=False).content
    with av.open(io.BytesIO(content)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 17


def test_async_call_then_fetch_then_wait() -> None:
    task = VideoSynthesis.async_call(MODEL, PROMPT, seed=4, num_inference_steps=6)

    assert task.output.task_status == "PENDING"
    assert task.request_id
    assert VideoSynthesis.fetch(task).output.task_status in ("PENDING", "RUNNING", "SUCCEEDED")
    assert VideoSynthesis.wait(task).output.task_status == "SUCCEEDED"


@pytest.mark.usefixtures("paused")
def test_a_pending_task_is_listed_and_can_be_cancelled() -> None:
    task = VideoSynthesis.async_call(MODEL, f"{PROMPT}, cancelled")

    pending = VideoSynthesis.list(status="PENDING", page_size=100)
    assert task.output.task_id in [listed["task_id"] for listed in pending.output["data"]]
    assert VideoSynthesis.cancel(task).status_code == HTTPStatus.OK
    assert VideoSynthesis.fetch(task).output.task_status == "CANCELED"
    again = VideoSynthesis.cancel(task)
    assert (again.status_code, again.code) == (HTTPStatus.CONFLICT, "UnsupportedOperation")


def test_refusals_come_in_the_sdk_s_own_shape() -> None:
    overlong = VideoSynthesis.async_call(MODEL, "x" * 801)
    unknown = VideoSynthesis.async_call("wan9-t2v", PROMPT)
    picture = VideoSynthesis.async_call(MODEL, PROMPT, img_url="https://example.com/a.png")

    assert (overlong.status_code, overlong.code) == (HTTPStatus.BAD_REQUEST, "InvalidParameter")
    assert "800" in overlong.message
    assert (unknown.status_code, unknown.code) == (HTTPStatus.NOT_FOUND, "ModelNotFound")
    assert (picture.status_code, picture.code) == (HTTPStatus.BAD_REQUEST, "InvalidParameter")
    assert "img_url" in picture.message
    assert all(answer.request_id for answer in (overlong, unknown, picture))


def test_a_task_that_is_not_there_is_unknown() -> None:
    assert VideoSynthesis.fetch("nothing").output.task_status == "UNKNOWN"
