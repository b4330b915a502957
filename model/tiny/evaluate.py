"""`make evaluate-embedded`: generate held-out prompts, judge the pixels, print adherence by attribute.

Every held-out (shape, colour, motion) triple is asked for in both languages with one seed a pair. The judge is first
tried on ground truth, which it must accept, and on ground truth under wrong captions, which it must reject.
"""

import argparse
import itertools
import json
import random
import statistics
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from model.engine import Engine
from model.tiny.captions import describe
from model.tiny.card import write_card
from model.tiny.export import EXAMPLE_PROMPTS
from model.tiny.judge import NOTHING, Verdict, judge
from model.tiny.render import render
from model.tiny.world import ATTRIBUTES, DEFAULT_SCENE, Scene, draw_path, held_out_scenes

NUM_PROCESSES = 2
LANGUAGES = ("en", "zh")
GOALS = {"background": 97.0, "colour": 97.0, "shape": 92.0, "motion": 95.0, "all": 90.0}
OUTSIDE_PROMPTS = (
    "a cat on a beach",
    "海滩上的一只猫",
    ".",
    "🎈",
    "two robots dancing in the rain",
    "一条龙飞过城市",
)
NUM_OUTSIDE_SEEDS = 24
MAX_WOBBLE = 0.03
"""Of an outline that no prompt asked for: three times what the judge allows a named shape."""
MAX_STEP_LOSS, MAX_LANGUAGE_GAP, MIN_REJECTED = 6.0, 5.0, 95.0


@dataclass(frozen=True, slots=True)
class Trial:
    """One prompt to generate, and the scene it names."""

    scene: Scene
    language: str
    prompt: str
    seed: int


@dataclass(frozen=True, slots=True)
class Outcome:
    trial: Trial
    verdict: Verdict

    def is_right(self, attribute: str) -> bool:
        agrees = self.verdict.agrees(self.trial.scene)
        return all(agrees.values()) if attribute == "all" else agrees[attribute]


def draw_trials(num_scenes: int, *, seed: int = 2026) -> list[Trial]:
    """Pairs of trials, English and Chinese, over all held-out triples in turn; at most 7 backgrounds a triple."""
    rng = random.Random(seed)
    triples = len(held_out_scenes(random.Random(seed), repeats=1))
    scenes = held_out_scenes(rng, repeats=min(7, -(-num_scenes // triples)))
    rng.shuffle(scenes)
    return [
        Trial(scene, language, describe(scene, rng, language=language).text, 1000 + i)
        for i, scene in enumerate(scenes[:num_scenes])
        for language in LANGUAGES
    ]


def run_trials(checkpoint: str, trials: Sequence[Trial], num_steps: int, dtype: str) -> list[Outcome]:
    """Generate and judge, one process a core."""
    verdicts = _generate(checkpoint, [(t.prompt, t.seed) for t in trials], num_steps, dtype)
    return [Outcome(trial, verdict) for trial, verdict in zip(trials, verdicts, strict=True)]


def adherence(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Attribute, and "all" → percent right."""
    return {
        name: 100 * statistics.fmean(outcome.is_right(name) for outcome in outcomes) for name in (*ATTRIBUTES, "all")
    }


def blind_adherence(checkpoint: str, trials: Sequence[Trial], num_steps: int, dtype: str) -> dict[str, float]:
    """The same seeds and scenes, but the checkpoint is shown a prompt that says nothing."""
    return adherence(run_trials(checkpoint, [replace(t, prompt=".") for t in trials], num_steps, dtype))


def clean_share(checkpoint: str, num_steps: int, dtype: str) -> float:
    """Percent of clips of OUTSIDE_PROMPTS, each with NUM_OUTSIDE_SEEDS seeds, that are clean."""
    prompts = [(prompt, seed) for prompt in OUTSIDE_PROMPTS for seed in range(NUM_OUTSIDE_SEEDS)]
    return 100 * statistics.fmean(map(is_clean, _generate(checkpoint, prompts, num_steps, dtype)))


def is_clean(verdict: Verdict) -> bool:
    """Whether a prompt from outside the world gave a whole, nearly steady shape of one colour that rests on another."""
    is_drawn = NOTHING not in (verdict.background, verdict.colour) and verdict.background != verdict.colour
    return is_drawn and verdict.motion == DEFAULT_SCENE.motion and verdict.outline_error < MAX_WOBBLE


def judge_ground_truth(num_scenes: int) -> tuple[float, float]:
    """Percent of rendered held-out clips accepted, and of their wrong captions rejected."""
    rng = random.Random(1)
    scenes = [t.scene for t in draw_trials(num_scenes)[::2]]
    accepted, rejected = [], []
    for scene in scenes:
        clip = render([scene], [draw_path(scene, rng)])[0]
        verdict = judge(((clip + 1) * 127.5).round().byte().permute(1, 2, 3, 0).numpy())
        accepted.append(all(verdict.agrees(scene).values()))
        for attribute, values in ATTRIBUTES.items():
            wrong = rng.choice([v for v in values if v != scene.value(attribute)])
            rejected.append(not all(verdict.agrees(replace(scene, **{attribute: wrong})).values()))
    return 100 * statistics.fmean(accepted), 100 * statistics.fmean(rejected)


def contact_sheet(clips: Sequence[NDArray[np.uint8]], *, columns: int = 2, scale: int = 2) -> Image.Image:
    """Five frames a clip, one clip a cell  # each f h w 3"""
    strips = [np.concatenate([clip[i] for i in np.linspace(0, len(clip) - 1, 5).astype(int)], 1) for clip in clips]
    strips += [np.zeros_like(strips[0])] * (-len(strips) % columns)
    rows = [np.concatenate(strips[i : i + columns], 1) for i in range(0, len(strips), columns)]
    sheet = Image.fromarray(np.concatenate(rows, 0))
    return sheet.resize((sheet.width * scale, sheet.height * scale), Image.Resampling.BICUBIC)


def draw_sheet(checkpoint: str, file: Path, num_steps: int, dtype: str) -> None:
    """One clip of every example prompt, English on the left, Chinese on the right."""
    pairs = zip(EXAMPLE_PROMPTS["en"], EXAMPLE_PROMPTS["zh"], strict=True)
    _open_engine(checkpoint, dtype)
    clips = [generate_clip(prompt, seed, num_steps) for seed, prompt in enumerate(itertools.chain(*pairs))]
    contact_sheet(clips).save(file, optimize=True)


_ENGINE: dict[str, Engine] = {}


def _open_engine(checkpoint: str, dtype: str) -> None:
    torch.set_num_threads(1)
    _ENGINE["engine"] = Engine.from_pretrained(checkpoint, device="cpu", dtype=dtype)


def generate_clip(prompt: str, seed: int, num_steps: int) -> NDArray[np.uint8]:
    """One clip at the card's defaults, in a process whose engine is open  # f h w 3"""
    engine = _ENGINE["engine"]
    params = replace(engine.card.default_params(prompt), seed=seed, num_inference_steps=num_steps)
    return engine.generate(params).pixels


def _judge_clip(prompt: str, seed: int, num_steps: int) -> Verdict:
    return judge(generate_clip(prompt, seed, num_steps))


def _generate(checkpoint: str, prompts: Sequence[tuple[str, int]], num_steps: int, dtype: str) -> list[Verdict]:
    texts, seeds = zip(*prompts, strict=True)
    with ProcessPoolExecutor(
        NUM_PROCESSES, get_context("spawn"), initializer=_open_engine, initargs=(checkpoint, dtype)
    ) as pool:
        return list(pool.map(_judge_clip, texts, seeds, [num_steps] * len(texts), chunksize=4))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m model.tiny.evaluate", description=__doc__)
    parser.add_argument("--checkpoint", default="embedded")
    parser.add_argument("--scenes", type=int, default=128, help="held-out scenes, each in both languages")
    parser.add_argument("--steps", type=int, nargs="+", default=[20, 10, 40], help="the first is the reference")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--card", type=Path, help="write the model card of this checkpoint folder")
    parser.add_argument("--sheet", type=Path, help="write a picture of the example prompts' frames")
    parser.add_argument("--work", type=Path, default=Path(".training"), help="the training's folder, for the card")
    args = parser.parse_args()
    if args.card and (set(args.steps) != {20, 10, 40} or not (args.work / "done").is_dir()):
        parser.error("--card needs the steps 20 10 40, and --work with the markers of the training")
    trials = draw_trials(args.scenes)
    figures: dict[str, object] = {"scenes": args.scenes, "prompts": len(trials), "dtype": args.dtype}
    accepted, rejected = judge_ground_truth(args.scenes)
    _figure("judge accepts ground truth", accepted, 100.0)
    _figure("judge rejects wrong captions", rejected, MIN_REJECTED)
    figures["judge"] = {"accepts_ground_truth": accepted, "rejects_wrong_captions": rejected}
    reference: dict[str, float] = {}
    for num_steps in args.steps:
        outcomes = run_trials(args.checkpoint, trials, num_steps, args.dtype)
        percent = adherence(outcomes)
        for name, value in percent.items():
            goal = reference[name] - MAX_STEP_LOSS if reference else GOALS[name]
            _figure(f"{num_steps} steps {name}", value, goal)
        if not reference:
            reference = percent
            figures["languages"] = _compare_languages(outcomes)
            figures["by_value"] = _by_value(outcomes)
        figures[f"steps_{num_steps}"] = percent
    blind = blind_adherence(args.checkpoint, trials[::2], args.steps[0], args.dtype)
    print("blind baseline (a prompt that says nothing): " + " ".join(f"{k} {v:.1f}" for k, v in blind.items()))
    figures["blind"] = blind
    figures["outside_clean"] = clean_share(args.checkpoint, args.steps[0], args.dtype)
    print(f"clean clips of prompts from outside the world: {figures['outside_clean']:.1f} %")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if args.card:
        write_card(args.card, figures, args.work)
    if args.sheet:
        draw_sheet(args.checkpoint, args.sheet, args.steps[0], args.dtype)


def _compare_languages(outcomes: Sequence[Outcome]) -> dict[str, float]:
    percent = {
        language: adherence([o for o in outcomes if o.trial.language == language])["all"] for language in LANGUAGES
    }
    gap = abs(percent["en"] - percent["zh"])
    print(f"english {percent['en']:.1f} chinese {percent['zh']:.1f} (paired scenes and seeds)")
    _figure("language gap", gap, MAX_LANGUAGE_GAP, is_upper_bound=True)
    return percent


def _by_value(outcomes: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    table: dict[str, dict[str, float]] = {}
    for attribute, values in ATTRIBUTES.items():
        groups = {v: [o for o in outcomes if o.trial.scene.value(attribute) == v] for v in values}
        table[attribute] = {
            v: round(100 * statistics.fmean(o.is_right(attribute) for o in group), 1)
            for v, group in groups.items()
            if group
        }
        print(f"  {attribute}: " + " ".join(f"{v} {p:g}" for v, p in table[attribute].items()))
    return table


def _figure(name: str, value: float, goal: float, *, is_upper_bound: bool = False) -> None:
    is_ok = value <= goal if is_upper_bound else value >= goal
    sign = "<=" if is_upper_bound else ">="
    print(f"{name:34} {value:6.1f}  {sign} {goal:5.1f}  {'ok' if is_ok else 'short'}", flush=True)


if __name__ == "__main__":
    main()
