"""From what a caller asks to what is made: a table of snaps and a table of refusals."""

from typing import Any

import pytest

from service.errors import InvalidRequest
from service.jobs.card import DefaultRange, ModelCard
from service.jobs.request import ResolvedVideo, parse, resolve


@pytest.fixture
def big_card(card: ModelCard) -> ModelCard:
    """Limits of Wan2.2-T2V-A14B: free sizes, 81 frames at 16 fps."""
    return card.model_copy(
        update={
            "id": "wan2.2-t2v-a14b",
            "native_sizes": ((1280, 720), (720, 1280), (832, 480), (480, 832)),
            "delivery_short_side": None,
            "num_frames": DefaultRange(min=1, max=81, default=81),
            "fps": DefaultRange(min=1, max=30, default=16),
        }
    )


def made(card: ModelCard, **fields: Any) -> ResolvedVideo:
    return resolve(parse({"prompt": "a red ball", **fields}), card)


def test_defaults_come_from_the_card(card: ModelCard) -> None:
    request = made(card).request

    assert (request.width, request.height, request.num_frames, request.fps) == (64, 64, 17, 8)
    assert (request.delivery_width, request.delivery_height, request.seconds) == (256, 256, "2")
    assert (request.num_inference_steps, request.guidance_scale, request.flow_shift) == (20, 4.0, 3.0)


def test_a_request_for_the_big_model_is_snapped_and_reported(card: ModelCard) -> None:
    resolved = made(
        card,
        prompt="一只红色的球",
        size="720x1280",
        num_frames=32,
        fps=8,
        guidance_scale=9.0,
        num_inference_steps=50,
        enable_safety_checker=True,
    )

    request = resolved.request
    assert (request.width, request.height) == (64, 96)
    assert (request.delivery_width, request.delivery_height) == (256, 384)
    assert (request.num_frames, request.guidance_scale, request.num_inference_steps) == (17, 9.0, 50)
    assert resolved.ignored == ("enable_safety_checker",)
    assert resolved.changed["num_frames"] == (32, 17)


@pytest.mark.parametrize(
    ("asked", "native"),
    [
        ({"size": "1280x720"}, (1280, 720)),
        ({"size": "1280*720"}, (1280, 720)),
        ({"width": 832, "height": 480}, (832, 480)),
        ({"size": "854x480"}, (848, 480)),
        ({"size": "640x480"}, (640, 480)),
        ({"size": "1920x1080"}, (1280, 720)),
        ({"size": "16x16"}, (16, 16)),
        ({"size": "8192x16"}, (8192, 16)),
    ],
)
def test_sizes_snap_to_the_stride_and_to_the_largest_area(
    big_card: ModelCard, asked: dict[str, Any], native: tuple[int, int]
) -> None:
    request = made(big_card, **asked).request

    assert (request.width, request.height) == native
    assert (request.delivery_width, request.delivery_height) == native


@pytest.mark.parametrize(
    ("asked", "num_frames", "fps", "seconds"),
    [
        ({}, 81, 16, "5"),
        ({"seconds": "4"}, 65, 16, "4"),
        ({"seconds": 5, "fps": 8}, 41, 8, "5"),
        ({"seconds": 60}, 81, 16, "5"),
        ({"num_frames": 80}, 81, 16, "5"),
        ({"num_frames": 1}, 1, 16, "0.062"),
        ({"num_frames": 2}, 1, 16, "0.062"),
        ({"num_frames": 3}, 5, 16, "0.312"),
        ({"num_frames": 9999}, 81, 16, "5"),
        ({"num_frames": 32, "fps": 8, "seconds": "4"}, 33, 8, "4"),
        ({"fps": 120}, 81, 30, "2.7"),
    ],
)
def test_frames_snap_to_the_stride_and_to_the_bounds(
    big_card: ModelCard, asked: dict[str, Any], num_frames: int, fps: int, seconds: str
) -> None:
    request = made(big_card, **asked).request

    assert (request.num_frames, request.fps, request.seconds) == (num_frames, fps, seconds)


def test_quality_sets_what_is_not_given(card: ModelCard) -> None:
    assert made(card, quality="draft").request.num_inference_steps == 10
    assert made(card, quality="draft", num_inference_steps=33).request.num_inference_steps == 33


def test_an_unseeded_request_is_the_same_video_and_minus_one_a_fresh_one(card: ModelCard) -> None:
    assert made(card).request.seed == made(card).request.seed
    assert made(card).request.seed != made(card, num_inference_steps=7).request.seed
    assert len({made(card, seed=-1).request.seed for _ in range(5)}) == 5
    assert made(card, seed=0).request.seed == 0


def test_form_text_is_understood(card: ModelCard) -> None:
    request = made(card, num_frames="9", guidance_scale="5.5", seed="7", strict="false").request

    assert (request.num_frames, request.guidance_scale, request.seed) == (9, 5.5, 7)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": " \n\t"}, "prompt"),
        ({"prompt": "x" * 10_000}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": ["a"]}, "prompt"),
        ({"prompt": "\ud800"}, "prompt"),
        ({"negative_prompt": "x" * 10_000}, "negative_prompt"),
        ({"size": "big"}, "size"),
        ({"size": "0x0"}, "size"),
        ({"size": "99999x64"}, "size"),
        ({"size": 5}, "size"),
        ({"width": 64}, "height"),
        ({"width": -64, "height": 64}, "width"),
        ({"width": 64.5, "height": 64}, "width"),
        ({"num_frames": 0}, "num_frames"),
        ({"num_frames": 10**9}, "num_frames"),
        ({"num_frames": True}, "num_frames"),
        ({"num_frames": "many"}, "num_frames"),
        ({"fps": 0}, "fps"),
        ({"seconds": float("nan")}, "seconds"),
        ({"seconds": float("inf")}, "seconds"),
        ({"seconds": 0}, "seconds"),
        ({"seconds": 1, "num_frames": 17}, "seconds"),
        ({"guidance_scale": float("nan")}, "guidance_scale"),
        ({"guidance_scale": -1}, "guidance_scale"),
        ({"flow_shift": 0}, "flow_shift"),
        ({"num_inference_steps": 0}, "num_inference_steps"),
        ({"num_inference_steps": 10**6}, "num_inference_steps"),
        ({"seed": -2}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"quality": "ultra"}, "quality"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"file_name": "../x"}, "file_name"),
        ({"input_reference": "data:image/png;base64,AA"}, "input_reference"),
        ({"strict": "perhaps"}, "strict"),
    ],
)
def test_a_wrong_field_is_named(card: ModelCard, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        made(card, **fields)

    assert error.value.param == param
    assert (error.value.http_status, error.value.retryable) == (400, False)


def test_a_missing_prompt_is_named(card: ModelCard) -> None:
    with pytest.raises(InvalidRequest, match="prompt is missing"):
        parse({})


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"size": "720x1280"}, "width"),
        ({"num_frames": 32}, "num_frames"),
        ({"fps": 120}, "fps"),
        ({"guidance_scale": 50}, "guidance_scale"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_strict_refuses_what_would_be_changed_or_ignored(card: ModelCard, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        made(card, strict=True, **fields)

    assert error.value.param == param


def test_strict_accepts_what_can_be_made(card: ModelCard) -> None:
    resolved = made(card, strict=True, size="256x256", num_frames=17, fps=8, seconds="2", guidance_scale=4)

    assert resolved.changed == {}


def test_a_card_prices_a_request_by_its_size(card: ModelCard) -> None:
    whole, half = (
        card.estimated_seconds(width=64, height=64, num_frames=17, num_inference_steps=steps, rows_per_step=2)
        for steps in (20, 10)
    )

    assert whole == pytest.approx(3.0)
    assert half is not None
    assert 1.4 < half < 2.9
