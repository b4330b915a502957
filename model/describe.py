"""Where a checkpoint's card comes from: its wanserve.json, or the official recipe."""

import json
import math
from pathlib import Path
from typing import Any

from model import recipe
from model.card import CheckpointCard, DefaultRange, Defaults, Limits, Quality, Range
from model.cost import cost_coefficients
from model.errors import CheckpointError
from model.folder import CheckpointFolder
from model.schedule import SigmaGrid
from model.shapes import CheckpointShape, TransformerShape

A14B = TransformerShape(
    num_layers=40,
    num_heads=40,
    head_dim=128,
    ffn_dim=13824,
    text_dim=4096,
    freq_dim=256,
    in_channels=16,
    out_channels=16,
    patch_size=(1, 2, 2),
    rope_max_seq_len=1024,
)


def read_card(folder: CheckpointFolder) -> CheckpointCard:
    """The card in the folder's wanserve.json, else the official recipe. Raises CheckpointError."""
    if folder.wanserve_json.is_file():
        return _CardReader(folder).card()
    return official_card(folder.shape, name=folder.path.name, fingerprint=folder.fingerprint())


def official_card(shape: CheckpointShape, *, name: str, fingerprint: str) -> CheckpointCard:
    """Wan2.2-T2V-A14B as its authors run it; a differently sized checkpoint is named after its folder."""
    is_a14b = shape.transformer == A14B
    return CheckpointCard(
        id="wan2.2-t2v-a14b" if is_a14b else name.lower(),
        aliases=("Wan-AI/Wan2.2-T2V-A14B", "Wan-AI/Wan2.2-T2V-A14B-Diffusers") if is_a14b else (),
        fingerprint=fingerprint,
        native_sizes=recipe.NATIVE_SIZES,
        delivery_short_side=None,
        num_frames=DefaultRange(min=1, max=recipe.NUM_FRAMES, default=recipe.NUM_FRAMES),
        fps=DefaultRange(min=1, max=30, default=recipe.FPS),
        defaults=Defaults(
            num_inference_steps=recipe.NUM_INFERENCE_STEPS,
            guidance_scale=recipe.GUIDANCE_SCALE,
            guidance_scale_2=recipe.GUIDANCE_SCALE_2,
            flow_shift=recipe.FLOW_SHIFT,
            negative_prompt=recipe.NEGATIVE_PROMPT,
        ),
        limits=Limits(
            num_inference_steps=Range(1, 100),
            guidance_scale=Range(0, 20),
            flow_shift=Range(0.1, 100),
            prompt_characters=4000,
        ),
        quality={
            tier: Quality(steps, recipe.GUIDANCE_SCALE, recipe.GUIDANCE_SCALE_2)
            for tier, steps in recipe.QUALITY_STEPS.items()
        },
        cost=cost_coefficients(shape),
        sigma_grid="official",
        size_stride=shape.size_stride,
        frame_stride=shape.frame_stride,
        max_size_pixels=shape.transformer.rope_max_seq_len * shape.size_stride,
        example_prompts=recipe.EXAMPLE_PROMPTS,
        description=recipe.DESCRIPTION,
    )


class _CardReader:
    """Reads wanserve.json key by key, so that an error names the file, the key and what belongs there."""

    def __init__(self, folder: CheckpointFolder) -> None:
        self._folder = folder
        self._file = folder.wanserve_json
        self._content = _read_object(self._file)

    def card(self) -> CheckpointCard:
        shape = self._folder.shape
        return CheckpointCard(
            id=self._text("id"),
            aliases=self._texts("aliases"),
            fingerprint=self._folder.fingerprint(),
            native_sizes=self._sizes(),
            delivery_short_side=self._delivery_short_side(),
            num_frames=self._default_range("num_frames"),
            fps=self._default_range("fps"),
            defaults=self._defaults(),
            limits=self._limits(),
            quality={tier: self._quality(tier) for tier in ("draft", "standard", "high")},
            cost=cost_coefficients(shape),
            sigma_grid=self._sigma_grid(),
            size_stride=shape.size_stride,
            frame_stride=shape.frame_stride,
            max_size_pixels=shape.transformer.rope_max_seq_len * shape.size_stride,
            example_prompts={language: self._texts("example_prompts", language) for language in ("en", "zh")},
            description={language: self._text("description", language) for language in ("en", "zh")},
        )

    def _defaults(self) -> Defaults:
        return Defaults(
            num_inference_steps=self._whole("defaults", "num_inference_steps"),
            guidance_scale=self._number("defaults", "guidance_scale"),
            guidance_scale_2=self._number("defaults", "guidance_scale_2"),
            flow_shift=self._number("defaults", "flow_shift"),
            negative_prompt=self._text("defaults", "negative_prompt"),
        )

    def _limits(self) -> Limits:
        return Limits(
            num_inference_steps=self._range("limits", "num_inference_steps"),
            guidance_scale=self._range("limits", "guidance_scale"),
            flow_shift=self._range("limits", "flow_shift"),
            prompt_characters=self._whole("limits", "prompt_characters"),
        )

    def _quality(self, tier: str) -> Quality:
        return Quality(
            num_inference_steps=self._whole("quality", tier, "num_inference_steps"),
            guidance_scale=self._number("quality", tier, "guidance_scale"),
            guidance_scale_2=self._number("quality", tier, "guidance_scale_2"),
        )

    def _sizes(self) -> tuple[tuple[int, int], ...]:
        stride = self._folder.shape.size_stride
        match self._value("native_sizes"):
            case [_, *_] as sizes if all(_is_size(size, stride) for size in sizes):
                return tuple((width, height) for width, height in sizes)
            case _:
                raise self._wrong(f"a list of [width, height] in multiples of {stride}", "native_sizes")

    def _delivery_short_side(self) -> int | None:
        return None if self._value("delivery_short_side") is None else self._whole("delivery_short_side")

    def _sigma_grid(self) -> SigmaGrid:
        match self._value("sigma_grid"):
            case "official":
                return "official"
            case "diffusers":
                return "diffusers"
            case _:
                raise self._wrong('"official" or "diffusers"', "sigma_grid")

    def _default_range(self, key: str) -> DefaultRange:
        read = DefaultRange(
            min=self._whole(key, "min"), max=self._whole(key, "max"), default=self._whole(key, "default")
        )
        if not 1 <= read.min <= read.default <= read.max:
            raise self._wrong("1 <= min <= default <= max", key)
        return read

    def _range(self, *path: str) -> Range:
        return Range(min=self._number(*path, "min"), max=self._number(*path, "max"))

    def _whole(self, *path: str) -> int:
        value = self._value(*path)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong("a whole number", *path)
        return value

    def _number(self, *path: str) -> float:
        value = self._value(*path)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self._wrong("a number", *path)
        return float(value)

    def _text(self, *path: str) -> str:
        value = self._value(*path)
        if not isinstance(value, str):
            raise self._wrong("a string", *path)
        return value

    def _texts(self, *path: str) -> tuple[str, ...]:
        value = self._value(*path)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong("a list of strings", *path)
        return tuple(value)

    def _value(self, *path: str) -> Any:
        value: Any = self._content
        for key in path:
            if not isinstance(value, dict) or key not in value:
                raise CheckpointError(f"{self._file} lacks {'.'.join(path)}: add it, or delete the file.")
            value = value[key]
        return value

    def _wrong(self, expected: str, *path: str) -> CheckpointError:
        return CheckpointError(f"{self._file}: {'.'.join(path)} must be {expected}.")


def _is_size(size: Any, stride: int) -> bool:
    match size:
        case [int(width), int(height)]:
            return width > 0 and height > 0 and not width % stride and not height % stride
        case _:
            return False


def _read_object(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise CheckpointError(f"{file} can't be read as JSON ({e}).") from e
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} must hold a JSON object.")
    return content
