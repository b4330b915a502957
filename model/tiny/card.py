"""The model card of the embedded checkpoint, written from what `make evaluate-embedded` measured."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.tiny.train import STAGES

ATTRIBUTES = ("background", "colour", "shape", "motion", "all")


def write_card(folder: Path, figures: Mapping[str, Any], work: Path) -> None:
    """Writes folder/README.md. work: the training's folder, whose markers hold the seconds of every stage."""
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file() and f.name != "README.md")
    text = _CARD.format(
        megabytes=size / 1e6,
        scenes=figures["scenes"],
        prompts=figures["prompts"],
        accepts=figures["judge"]["accepts_ground_truth"],
        rejects=figures["judge"]["rejects_wrong_captions"],
        adherence="\n".join(_adherence_rows(figures)),
        english=figures["languages"]["en"],
        chinese=figures["languages"]["zh"],
        shapes=_by_value(figures, "shape"),
        motions=_by_value(figures, "motion"),
        dtype=figures["dtype"],
        outside_clean=figures["outside_clean"],
        stages="\n".join(_stage_rows(work)),
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def _adherence_rows(figures: Mapping[str, Any]) -> list[str]:
    names = {f"steps_{n}": f"{n} steps" for n in (20, 10, 40)}
    names["blind"] = "blind: same seeds, a prompt that says nothing"
    return [
        f"| {name} | " + " | ".join(f"{figures[key][attribute]:.1f}" for attribute in ATTRIBUTES) + " |"
        for key, name in names.items()
    ]


def _by_value(figures: Mapping[str, Any], attribute: str) -> str:
    return ", ".join(f"{value} {percent:g}" for value, percent in figures["by_value"][attribute].items())


def _stage_rows(work: Path) -> list[str]:
    seconds = {name: json.loads((work / "done" / f"{name}.json").read_text())["seconds"] for name in STAGES}
    return [f"| {name} | {took} |" for name, took in (*seconds.items(), ("all", sum(seconds.values())))]


_CARD = """\
---
license: apache-2.0
pipeline_tag: text-to-video
library_name: diffusers
language: [en, zh]
---

# The embedded checkpoint

A text-to-video checkpoint in Wan2.2's layout, small enough to ship inside wanserve: two experts
(WanTransformer3DModel, 1.77 M parameters each, boundary 0.875), a UMT5 text encoder (2 layers), a causal
AutoencoderKLWan (16 channels, 8x8x4), UniPC flow matching with shift 3. float16, {megabytes:.1f} MB.
`diffusers.WanPipeline` loads it as it is. It shows the whole service at work on a laptop; it is not a model for making
films.

## What it draws

One flat shape on a flat background, 64x64 pixels, 17 frames (wanserve delivers it at 256x256).

- shapes: circle (ball), square (box), triangle, star
- colours of shape and background: red, green, blue, yellow, purple, cyan, white, black
- motions: to the right, left, up, down, bouncing, growing, shrinking, still

Prompts in English and Chinese, in most wordings of these. Anything else in a prompt is ignored. A shape that the prompt
leaves open is a circle, a motion left open is none, a colour left open can be any: "a cat on a beach" shows a resting
circle of one colour on another.

## How well it follows

`make evaluate-embedded` generates every held-out (shape, colour, motion) triple, 64 of 256, twice on different
backgrounds in both languages: {scenes} scenes, {prompts} prompts, none of whose triples any part was trained on. A
judge reads the attributes from the pixels; a shape counts only if in all 17 frames one connected outline stays within
1 % of the frame's side of the shape's. The judge accepts {accepts:.0f} % of rendered ground truth and rejects
{rejects:.0f} % of wrong captions.

| percent right | background | colour | shape | motion | all |
|---|---|---|---|---|---|
{adherence}

All attributes right at 20 steps: English {english:.1f}, Chinese {chinese:.1f} (paired scenes and seeds).

- shapes: {shapes}
- motions: {motions}

{dtype}, the default guidance, one seed a scene.

## How it was made

`make train-embedded`: everything from nothing, on two CPU cores. The data are rendered on the fly with captions
(model/tiny/world.py, render.py, captions.py); there are no other data.

| stage | seconds |
|---|---|
{stages}

The text encoder learns to state in every token what the caption says, as one fixed direction an attribute value, and is
frozen; that is why both languages and held-out combinations do alike. The denoiser is trained with flow matching, first
as one network, then forked: a short training for the expert of high noise, most of all steps for the one that draws
outlines. Muon steps the hidden layers of autoencoder and denoiser, AdamW all else.

## Limits

- One object, no camera, no text, no people. Colours outside the eight fall to the nearest or to none.
- 64x64 and 17 frames is what it was trained on. Other frame counts run, but motions are cut or stretched.
- A prompt from outside its world gives a clean resting shape in {outside_clean:.0f} % of clips (outline within 3 %
  of the side); in the others it is unsteady or missing. Words it has never seen can be misread.
- Outlines can wobble: that is what the shape column counts. Stars are the hardest shape, for their thin arms.
"""
