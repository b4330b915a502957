"""The engine on the embedded checkpoint, against diffusers' own pipeline and against itself."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from model.engine import Engine
from model.errors import Cancelled, InvalidParams, NotFinite, OutOfMemory
from model.folder import open_folder
from model.loader import load_parts
from tests.model.oracle import our_latents, relative_error, stock_latents, stock_pixels

AGREEING = {
    "a usual request": {"num_frames": 17, "num_inference_steps": 20},
    "a Chinese prompt": {"prompt": "白色背景上，一个绿色的三角形向右移动", "num_inference_steps": 8},
    "a long negative prompt": {"negative_prompt": "worst quality, low quality, blurry, distorted, watermark, text"},
    "different guidance for the experts": {
        "guidance_scale": 6.0,
        "guidance_scale_2": 2.5,
        "num_inference_steps": 8,
    },
    "high shift, so that most steps are at high noise": {"flow_shift": 12.0, "num_inference_steps": 8},
    "one step": {"num_inference_steps": 1},
    "two steps": {"num_inference_steps": 2},
    "one frame": {"num_frames": 1},
    "guidance off": {"guidance_scale": 1.0, "guidance_scale_2": 1.0},
    "guidance off at low noise only": {"guidance_scale_2": 1.0, "num_inference_steps": 6},
    "another shape": {"width": 96, "height": 64},
    "a prompt beyond the token limit": {"prompt": "a red circle moves left and " * 120},
    "emoji, entities and odd white space": {"prompt": " a red  circle &amp; a 🚀\n\tmoves &lt;left&gt; "},
}


@pytest.mark.parametrize("changes", AGREEING.values(), ids=AGREEING.keys())
def test_latents_agree_with_the_stock_pipeline(engine, stock_pipeline, make_params, changes):
    params = make_params(**changes)

    assert relative_error(our_latents(engine, params), stock_latents(stock_pipeline, params)) < 1e-5


def test_the_official_grid_agrees_with_a_stock_pipeline_on_that_grid(engine, stock_pipeline, make_params):
    folder = open_folder("embedded")
    card = dataclasses.replace(engine.card, sigma_grid="official")
    official = Engine(
        load_parts(folder, device="cpu", dtype="float32"), shape=folder.shape, card=card, preview=engine._preview
    )
    params = make_params(num_inference_steps=12, flow_shift=12.0)

    ours = our_latents(official, params)

    assert relative_error(ours, stock_latents(stock_pipeline, params, grid="official")) < 1e-5
    assert relative_error(ours, stock_latents(stock_pipeline, params)) > 1e-4


def test_pixels_agree_with_the_stock_pipeline_but_for_rounding(engine, stock_pipeline, make_params):
    params = make_params(num_frames=17, num_inference_steps=20)

    frames = engine.generate(params)

    assert frames.pixels.shape == (17, 64, 64, 3)
    assert frames.pixels.dtype == np.uint8
    assert np.abs(frames.pixels - stock_pixels(stock_pipeline, params)).max() < 0.6


def test_the_same_seed_gives_the_same_pixels_and_another_seed_others(engine, make_params):
    first, again = engine.generate(make_params(seed=7)), engine.generate(make_params(seed=7))
    other = engine.generate(make_params(seed=8))

    assert np.array_equal(first.pixels, again.pixels)
    assert not np.array_equal(first.pixels, other.pixels)


def test_progress_counts_every_step_and_frame(engine, make_params):
    seen = []

    engine.generate(make_params(), on_progress=seen.append)

    assert [(p.completed_steps, p.completed_frames) for p in seen] == [
        (0, 0),
        (1, 0),
        (2, 0),
        (3, 0),
        (3, 1),
        (3, 5),
    ]
    fractions = [p.fraction for p in seen]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)


@pytest.mark.parametrize("completed_steps", [0, 1, 3])
def test_cancelling_stops_before_the_next_step_or_the_decoding(engine, make_params, completed_steps):
    seen = []

    with pytest.raises(Cancelled, match=f"after {completed_steps} of 3 steps"):
        engine.generate(
            make_params(),
            on_progress=seen.append,
            should_cancel=lambda: seen[-1].completed_steps == completed_steps,
        )

    assert seen[-1].completed_steps == completed_steps


def test_an_error_in_on_progress_reaches_the_caller_and_the_engine_goes_on(engine, make_params):
    def refuse(progress):
        raise LookupError("the job is gone")

    with pytest.raises(LookupError):
        engine.generate(make_params(), on_progress=refuse)
    assert engine.generate(make_params()).num_frames == 5


def test_stage_seconds_add_up_to_the_total(engine, make_params):
    seconds = engine.generate(make_params()).seconds

    assert min(seconds.text, seconds.denoise, seconds.decode) > 0
    assert seconds.total == seconds.text + seconds.denoise + seconds.decode


def test_warm_up_runs_both_experts(engine, make_params, monkeypatch):
    experts = []
    step = Engine.step

    def spy(self, requests):
        experts.extend(request.expert for request in requests)
        return step(self, requests)

    monkeypatch.setattr(Engine, "step", spy)
    engine.warm_up()

    assert set(experts) == {"high_noise", "low_noise"}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_makes_nearly_the_same_clip(engine, make_params, dtype):
    params = make_params(num_frames=17, num_inference_steps=20)
    half = Engine.from_pretrained("embedded", device="cpu", dtype=dtype)

    frames = half.generate(params)

    difference = np.abs(frames.pixels.astype(int) - engine.generate(params).pixels)
    assert half.dtype == getattr(torch, dtype)
    assert difference.mean() < 4


@pytest.mark.parametrize(("dtype", "advice"), [("float32", "download it again"), ("float16", "dtype bfloat16")])
def test_latents_that_overflow_are_named_with_their_step_and_what_to_do(make_params, dtype, advice):
    engine = Engine.from_pretrained("embedded", device="cpu", dtype=dtype)
    request, healthy = engine.prepare(make_params()), engine.prepare(make_params(seed=9))
    engine.step([request, healthy])
    request.latents = torch.full_like(request.latents, math.nan)

    failed = engine.step([request, healthy])

    assert (request.step, healthy.step) == (1, 2)
    assert list(failed) == [request]
    assert isinstance(failed[request], NotFinite)
    assert "after step 2 of 3" in str(failed[request])
    assert advice in str(failed[request])


def test_a_step_without_memory_leaves_the_request_as_it_was(engine, make_params, monkeypatch):
    request = engine.prepare(make_params())
    with monkeypatch.context() as patched:
        patched.setattr("model.stepper.predict_velocities", exhaust_memory)
        [error] = engine.step([request]).values()

    assert isinstance(error, OutOfMemory)
    assert "5 frames of 64x64 do not fit" in str(error)
    while not request.is_denoised:
        engine.step([request])
    assert torch.equal(request.latents, our_latents(engine, make_params()))


def exhaust_memory(*args, **kwargs):
    raise torch.OutOfMemoryError("CUDA out of memory")


def test_a_request_can_not_be_decoded_before_its_last_step(engine, make_params):
    with pytest.raises(ValueError, match="3 denoising steps remain"):
        engine.decode(engine.prepare(make_params()))


ILLEGAL = {
    "empty prompt": ({"prompt": " \n"}, "prompt is empty"),
    "prompt of 10 000 characters": ({"prompt": "x" * 10_000}, "10000 characters"),
    "negative prompt of 10 000 characters": ({"negative_prompt": "x" * 10_000}, "negative_prompt"),
    "half a surrogate pair": ({"prompt": "a \ud83d circle"}, "surrogate"),
    "odd width": ({"width": 65}, "width is 65; give a multiple of 16"),
    "no height": ({"height": 0}, "height is 0"),
    "huge width": ({"width": 16_384}, "up to"),
    "32 frames": ({"num_frames": 32}, "num_frames is 32; give 1 to"),
    "four frames": ({"num_frames": 4}, "1 \\+ a multiple of 4"),
    "no steps": ({"num_inference_steps": 0}, "num_inference_steps"),
    "guidance is not a number": ({"guidance_scale": math.nan}, "guidance_scale is nan; give 0 to 20"),
    "infinite low-noise guidance": ({"guidance_scale_2": math.inf}, "guidance_scale_2"),
    "no shift": ({"flow_shift": 0.0}, "flow_shift"),
    "half a step": ({"num_inference_steps": 2.5}, "num_inference_steps is 2.5; give a whole number"),
    "width as text": ({"width": "64"}, "width is '64'; give a whole number"),
    "guidance as text": ({"guidance_scale": "4"}, "guidance_scale is '4'; give a number"),
    "negative seed": ({"seed": -1}, "seed is -1"),
}


@pytest.mark.parametrize(("changes", "message"), ILLEGAL.values(), ids=ILLEGAL.keys())
def test_what_the_checkpoint_can_not_make_is_refused_by_name(engine, make_params, changes, message):
    with pytest.raises(InvalidParams, match=message):
        engine.generate(make_params(**changes))
