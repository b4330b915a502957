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
from model.tiny.evaluate import draw_trials, is_clean
from model.tiny.export import EXAMPLE_PROMPTS, service_card
from model.tiny.judge import Verdict, judge
from model.tiny.world import ATTRIBUTES, Scene

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


def test_it_follows_held_out_prompts(engine: Engine) -> None:
    trials = draw_trials(256)[:16]
    agrees = [look(engine, trial.prompt, trial.seed).agrees(trial.scene) for trial in trials]
    for attribute in ("background", "colour", "motion"):
        assert all(each[attribute] for each in agrees), attribute
    assert sum(each["shape"] for each in agrees) >= 14


EXAMPLES = {
    "a red ball bouncing on a blue background": Scene("blue", "red", "circle", "bounce"),
    "a yellow star moving to the right on a purple background": Scene("purple", "yellow", "star", "right"),
    "a white square growing on a black background": Scene("black", "white", "square", "grow"),
    "a green triangle rising in front of a cyan wall": Scene("cyan", "green", "triangle", "up"),
    "一个红色的圆形在蓝色背景上弹跳": Scene("blue", "red", "circle", "bounce"),
    "黄色的五角星在紫色背景上向右移动": Scene("purple", "yellow", "star", "right"),
    "黑色背景，一个白色的正方形逐渐变大": Scene("black", "white", "square", "grow"),
    "一个绿色的三角形在青色背景上上升": Scene("cyan", "green", "triangle", "up"),
}


def test_these_are_all_example_prompts() -> None:
    assert [*EXAMPLE_PROMPTS["en"], *EXAMPLE_PROMPTS["zh"]] == list(EXAMPLES)


@pytest.mark.parametrize(("prompt", "scene"), EXAMPLES.items(), ids=EXAMPLES)
def test_every_example_prompt_shows_what_it_says(engine: Engine, prompt: str, scene: Scene) -> None:
    verdict = look(engine, prompt, 0)
    assert verdict.agrees(scene) == dict.fromkeys(ATTRIBUTES, True), verdict


@pytest.mark.parametrize("seed", [3, 4])
@pytest.mark.parametrize("prompt", ["a cat on a beach", "海滩上的一只猫", ".", "🎈"])
def test_a_prompt_from_outside_its_world_gives_a_clean_clip_that_rests(engine: Engine, prompt: str, seed: int) -> None:
    assert is_clean(look(engine, prompt, seed))


@pytest.mark.parametrize("prompt", ["a blue cat on a white background", "白色背景上的一个蓝色物体"])
def test_what_a_prompt_leaves_open_is_the_default(engine: Engine, prompt: str) -> None:
    verdict = look(engine, prompt, 3)
    assert verdict.agrees(Scene("white", "blue", "circle", "still")) == dict.fromkeys(ATTRIBUTES, True), verdict
