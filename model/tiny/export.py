"""Put the trained parts together: a diffusers folder in float16, and what the service wants to know about it."""

import json
import random
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from transformers import T5TokenizerFast, UMT5EncoderModel

from model.preview import fit_preview, write_preview
from model.tiny.render import render
from model.tiny.train_denoiser import BOUNDARY, SHIFT
from model.tiny.world import NUM_FRAMES, SIDE_PIXELS, draw_path, draw_scene

GUIDANCE = 4.0
REVISION = "1"
"""Of the checkpoint that ships: grows with every one that replaces it."""

NUM_PREVIEW_SCENES = 128
DESCRIPTION = {
    "en": (
        "A teaching-sized checkpoint that ships with wanserve. It draws one flat shape (circle, square, triangle "
        "or star) in one of eight colours on a background of another, and moves it right, left, up or "
        "down, bounces, grows, shrinks or rests it. Anything else in a prompt is ignored; what the prompt "
        "leaves open is a resting circle in some colour."
    ),
    "zh": (
        "随 wanserve 附带的小型演示模型。它在纯色背景上画一个图形（圆形、正方形、三角形或星形），共八种颜色，"
        "图形可以向右、向左、向上、向下移动，弹跳，变大，变小或静止。提示词中的其他内容会被忽略；提示词没有说明的部分，"
        "默认画一个颜色随机、静止的圆形。"
    ),
}
EXAMPLE_PROMPTS = {
    "en": [
        "a red ball bouncing on a blue background",
        "a yellow star moving to the right on a purple background",
        "a white square growing on a black background",
        "a green triangle rising in front of a cyan wall",
    ],
    "zh": [
        "一个红色的圆形在蓝色背景上弹跳",
        "黄色的五角星在紫色背景上向右移动",
        "黑色背景，一个白色的正方形逐渐变大",
        "一个绿色的三角形在青色背景上上升",
    ],
}


def export(work: Path, out: Path) -> None:
    """Replace the weights in `out` by those in `work`. Keeps the measured model card that may lie there."""
    pipeline = WanPipeline(
        tokenizer=T5TokenizerFast.from_pretrained(work / "tokenizer"),
        text_encoder=UMT5EncoderModel.from_pretrained(work / "text_encoder"),
        vae=AutoencoderKLWan.from_pretrained(work / "vae_normalised"),
        scheduler=UniPCMultistepScheduler(
            prediction_type="flow_prediction",
            use_flow_sigmas=True,
            flow_shift=SHIFT,
            num_train_timesteps=1000,
        ),
        transformer=WanTransformer3DModel.from_pretrained(work / "high"),
        transformer_2=WanTransformer3DModel.from_pretrained(work / "low"),
        boundary_ratio=BOUNDARY,
    ).to(torch.float16)
    if out.exists() and not (out / "model_index.json").exists():
        raise SystemExit(f"{out} is not a checkpoint: give --out a new folder, or one that may be replaced.")
    draft = work / "export"
    shutil.rmtree(draft, ignore_errors=True)
    pipeline.save_pretrained(draft)
    (draft / "wanserve.json").write_text(
        json.dumps(service_card(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    write_preview(draft, fit_preview(pipeline.vae.float(), _frames()))
    for config in draft.glob("*/config.json"):
        _forget_origin(config)
    card = out / "README.md"
    if card.exists():
        shutil.copy(card, draft / "README.md")
    shutil.rmtree(out, ignore_errors=True)
    shutil.move(draft, out)
    size = sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
    print(f"exported {size / 1e6:.2f} MB", flush=True)


def _frames() -> torch.Tensor:
    """Single frames of the world, for the preview map  # n 3 h w"""
    rng = random.Random("preview")
    scenes = [draw_scene(rng, held_out=False) for _ in range(NUM_PREVIEW_SCENES)]
    return render(scenes, [draw_path(scene, rng) for scene in scenes])[:, :, 0]


def service_card() -> dict[str, object]:
    """The contents of wanserve.json."""

    def tier(num_steps: int) -> dict[str, float]:
        return {"num_inference_steps": num_steps, "guidance_scale": GUIDANCE, "guidance_scale_2": GUIDANCE}

    return {
        "id": "wan2.2-t2v-embedded",
        "revision": REVISION,
        "aliases": ["embedded", "wan2.2-t2v-plus"],
        "native_sizes": [[SIDE_PIXELS, SIDE_PIXELS]],
        "delivery_short_side": 256,
        "num_frames": {"min": 1, "max": NUM_FRAMES, "default": NUM_FRAMES},
        "fps": {"min": 1, "max": 30, "default": 8},
        "sigma_grid": "diffusers",
        "defaults": {**tier(20), "flow_shift": SHIFT, "negative_prompt": ""},
        "limits": {
            "num_inference_steps": {"min": 1, "max": 100},
            "guidance_scale": {"min": 0.0, "max": 20.0},
            "flow_shift": {"min": 0.1, "max": 100.0},
            "prompt_characters": 4000,
        },
        "quality": {"draft": tier(10), "standard": tier(20), "high": tier(40)},
        "example_prompts": EXAMPLE_PROMPTS,
        "description": DESCRIPTION,
    }


def _forget_origin(config: Path) -> None:
    """diffusers writes the folder that a part came from into its config; nobody else has that folder."""
    content = json.loads(config.read_text())
    content.pop("_name_or_path", None)
    config.write_text(json.dumps(content, indent=2) + "\n")
