"""The unmodified openai SDK against a whole `wanserve up`."""

import io
from collections.abc import Iterator

import av
import openai
import pytest
from openai import OpenAI
from PIL import Image

PROMPT = "a red circle moves to the left on a white background"

# OpenAI marks these methods deprecated since it closed its own service; the shape is our contract.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def client(up_address: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{up_address}/v1", api_key="none needed") as opened:
        yield opened


def test_create_and_poll_then_download(client: OpenAI) -> None:
    video = client.videos.create_and_poll(
        prompt=PROMPT, seconds="4", extra_body={"num_inference_steps": 6, "fps": 8, "metadata": {"order": "7"}}
    )

    assert video.status == "completed"
    assert video.progress == 100
    assert video.error is None
    assert video.model_extra is not None
    assert video.model_extra["metadata"] == {"order": "7"}
    content = client.videos.download_content(video.id).read()
    with av.open(io.BytesIO(content)) as container:
        [stream] = container.streams.video
        frames = list(container.decode(stream))
    assert len(frames) == video.model_extra["num_frames"]
    assert f"{frames[0].width}x{frames[0].height}" == video.size


def test_the_thumbnail_is_a_picture(client: OpenAI) -> None:
    video = client.videos.create_and_poll(prompt=PROMPT, extra_body={"num_inference_steps": 6, "seed": 1})

    picture = client.videos.download_content(video.id, variant="thumbnail").read()

    assert picture[8:12] == b"WEBP"


def test_the_sprite_sheet_shows_the_frames(client: OpenAI) -> None:
    video = client.videos.create_and_poll(prompt=PROMPT, extra_body={"num_inference_steps": 6, "seed": 1})

    sheet = Image.open(io.BytesIO(client.videos.download_content(video.id, variant="spritesheet").read()))

    assert (sheet.format, sheet.size) == ("WEBP", (640, 640))


def test_a_remix_is_the_same_video_with_another_prompt(client: OpenAI) -> None:
    fields = {"num_inference_steps": 6, "seed": 3, "quality": "draft"}
    first = client.videos.create_and_poll(prompt=PROMPT, seconds="4", extra_body=fields)

    remix = client.videos.poll(client.videos.remix(first.id, prompt="a blue square rests on a white background").id)

    assert (remix.status, remix.remixed_from_video_id) == ("completed", first.id)
    assert remix.prompt == "a blue square rests on a white background"
    assert remix.model_extra is not None
    assert first.model_extra is not None
    for name in ("num_frames", "seed", "num_inference_steps", "guidance_scale"):
        assert remix.model_extra[name] == first.model_extra[name]


def test_what_needs_a_picture_or_a_video_is_refused(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as edit:
        client.videos.edit(prompt=PROMPT, video=b"a video")
    with pytest.raises(openai.BadRequestError) as extension:
        client.videos.extend(prompt=PROMPT, seconds="4", video=b"a video")
    with pytest.raises(openai.BadRequestError) as character:
        client.videos.create_character(name="Ada", video=b"a video")

    assert {refused.value.code for refused in (edit, extension, character)} == {"not_supported"}


def test_the_same_request_is_the_same_file(client: OpenAI) -> None:
    fields = {"num_inference_steps": 6, "seed": 2}
    first = client.videos.create_and_poll(prompt=PROMPT, extra_body=fields)

    again = client.videos.create(prompt=PROMPT, extra_body=fields)

    assert again.id != first.id
    assert again.status == "completed"
    assert client.videos.download_content(again.id).read() == client.videos.download_content(first.id).read()


def test_list_and_delete(client: OpenAI) -> None:
    ids = [client.videos.create(prompt=f"{PROMPT} {number}").id for number in range(3)]

    assert [video.id for video in client.videos.list(limit=2)][:3] == ids[::-1]
    for video_id in ids:
        assert client.videos.delete(video_id).deleted
    with pytest.raises(openai.NotFoundError):
        client.videos.retrieve(ids[0])


def test_models_are_listed(client: OpenAI) -> None:
    [model] = client.models.list()

    assert client.models.retrieve(model.id).id == model.id


def test_a_model_is_known_by_its_aliases_and_has_three_qualities(client: OpenAI) -> None:
    model = client.models.retrieve("wan2.2-t2v-plus")

    assert model.model_extra is not None
    tiers = model.model_extra["quality"]
    assert list(tiers) == ["draft", "standard", "high"]
    steps = [tier["num_inference_steps"] for tier in tiers.values()]
    assert steps == sorted(set(steps))


def test_a_retried_key_is_one_video(client: OpenAI) -> None:
    headers = {"Idempotency-Key": "sdk-1"}

    ids = {client.videos.create(prompt=PROMPT, extra_headers=headers).id for _ in range(2)}

    assert len(ids) == 1


def test_refusals_are_the_sdk_s_own_errors(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as empty:
        client.videos.create(prompt="")
    with pytest.raises(openai.NotFoundError) as unknown:
        client.videos.create(prompt=PROMPT, model="sora-2")
    with pytest.raises(openai.BadRequestError) as picture:
        client.videos.create(prompt=PROMPT, input_reference=b"a picture")
    waiting = client.videos.create(prompt=PROMPT, extra_body={"num_inference_steps": 100, "seed": -1})
    with pytest.raises(openai.ConflictError) as early:
        client.videos.download_content(waiting.id)
    client.videos.delete(waiting.id)

    assert (empty.value.param, empty.value.code) == ("prompt", "invalid_request")
    assert unknown.value.code == "model_not_found"
    assert picture.value.param == "input_reference"
    assert early.value.code == "video_not_ready"
