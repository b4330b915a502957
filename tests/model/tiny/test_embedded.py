"""The checkpoint that ships: loads in stock diffusers, stays small, follows held-out prompts in both languages."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import WanPipeline

import model
from model.engine import Engine
from model.tiny.evaluate import Trial, draw_trials
from model.tiny.export import service_card
from model.tiny.judge import NOTHING, Verdict, judge

FOLDER = Path(model.__path__[0]) / "embedded"


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Engine.from_pretrained("embedded", device="cpu", dtype="float32")
    torch.set_num_threads(threads)


def look(engine: Engine, prompt: str, seed: int) -> Verdict:
    params = replace(engine.card.default_params(prompt), seed=seed)
    return judge(engine.generate(params).pixels)


def test_the_stock_pipeline_loads_and_runs_it() -> None:
    pipeline = WanPipeline.from_pretrained(FOLDER, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    frames = pipeline(
        prompt="a red ball on a blue background",
        height=64,
        width=64,
        num_frames=17,
        num_inference_steps=10,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
    ).frames[0]
    verdict = judge((frames * 255).round().astype(np.uint8))
    assert (verdict.background, verdict.colour) == ("blue", "red")


def test_it_stays_under_twelve_megabytes_of_float16() -> None:
    files = [f for f in FOLDER.rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) < 12_000_000
    assert {json.loads(f.read_text()).get("dtype", "float16") for f in FOLDER.glob("*/config.json")} == {"float16"}


def test_its_configs_name_no_folder_of_the_machine_that_made_it() -> None:
    for config in FOLDER.rglob("*.json"):
        assert "_name_or_path" not in config.read_text(encoding="utf-8")


def test_its_service_card_is_the_one_the_export_writes() -> None:
    assert json.loads((FOLDER / "wanserve.json").read_text(encoding="utf-8")) == service_card()


@pytest.mark.parametrize("trial", draw_trials(256)[:12], ids=lambda t: f"{t.language}-{t.seed}")
def test_it_follows_held_out_prompts(engine: Engine, trial: Trial) -> None:
    verdict = look(engine, trial.prompt, trial.seed)
    agrees = verdict.agrees(trial.scene)
    assert {name: agrees[name] for name in ("background", "colour", "motion")} == dict.fromkeys(
        ("background", "colour", "motion"), True
    )


@pytest.mark.parametrize("prompt", ["a cat on a beach", "海滩上的一只猫", ".", "🎈"])
def test_a_prompt_from_outside_its_world_gives_no_noise(engine: Engine, prompt: str) -> None:
    params = replace(engine.card.default_params(prompt), seed=3)
    pixels = engine.generate(params).pixels.astype(float)
    corners = pixels[:, [0, 1, -2, -1]][:, :, [0, 1, -2, -1]].reshape(-1, 3)
    assert corners.std(axis=0).max() < 6


@pytest.mark.parametrize("prompt", service_card()["example_prompts"]["en"] + service_card()["example_prompts"]["zh"])  # type: ignore[index]
def test_every_example_prompt_gives_one_whole_shape_that_moves(engine: Engine, prompt: str) -> None:
    verdict = look(engine, prompt, 0)
    assert verdict.motion != NOTHING
    assert verdict.outline_error < 0.02


@pytest.mark.xfail(strict=False, reason="known gap of the shipped checkpoint: outlines wobble outside its world")
@pytest.mark.parametrize("prompt", ["a cat on a beach", "海滩上的一只猫", ".", "🎈"])
def test_a_prompt_from_outside_its_world_still_gives_a_clean_clip(engine: Engine, prompt: str) -> None:
    verdict = look(engine, prompt, 3)
    assert NOTHING not in (verdict.background, verdict.colour)
    assert verdict.outline_error < 0.03
