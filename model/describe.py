"""Where a checkpoint's card comes from: its wanserve.json, or the official recipe."""

from typing import Any

from model import recipe
from model.card import CheckpointCard, DefaultRange, Defaults, Limits, Quality, Range
from model.cost import cost_coefficients
from model.fingerprint import fingerprint
from model.folder import CheckpointFolder
from model.json_file import JsonFile
from model.revision import hub_revision
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
        return _read_wanserve_json(folder)
    digest = fingerprint(folder, sigma_grid="official")
    return official_card(folder.shape, name=folder.path.name, digest=digest, revision=hub_revision(folder.path))


def official_card(shape: CheckpointShape, *, name: str, digest: str, revision: str | None = None) -> CheckpointCard:
    """Wan2.2-T2V-A14B as its authors run it; a differently sized checkpoint is named after its folder."""
    is_a14b = shape.transformer == A14B
    return CheckpointCard(
        id="wan2.2-t2v-a14b" if is_a14b else name.lower(),
        aliases=recipe.ALIASES if is_a14b else (),
        fingerprint=digest,
        revision=revision,
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


def _read_wanserve_json(folder: CheckpointFolder) -> CheckpointCard:
    file, shape = JsonFile(folder.wanserve_json), folder.shape
    return CheckpointCard(
        id=file.text("id"),
        aliases=file.texts("aliases"),
        fingerprint=fingerprint(folder, sigma_grid=_sigma_grid(file)),
        revision=_revision(file) or hub_revision(folder.path),
        native_sizes=_sizes(file, shape.size_stride),
        delivery_short_side=_delivery_short_side(file),
        num_frames=_frames(file, shape.frame_stride),
        fps=_default_range(file, "fps"),
        defaults=_defaults(file),
        limits=_limits(file),
        quality={tier: _quality(file, tier) for tier in recipe.QUALITY_STEPS},
        cost=cost_coefficients(shape),
        sigma_grid=_sigma_grid(file),
        size_stride=shape.size_stride,
        frame_stride=shape.frame_stride,
        max_size_pixels=shape.transformer.rope_max_seq_len * shape.size_stride,
        example_prompts={language: file.texts("example_prompts", language) for language in recipe.LANGUAGES},
        description={language: file.text("description", language) for language in recipe.LANGUAGES},
    )


def _sizes(file: JsonFile, stride: int) -> tuple[tuple[int, int], ...]:
    match file.value("native_sizes"):
        case [_, *_] as sizes if all(_is_size(size, stride) for size in sizes):
            return tuple((width, height) for width, height in sizes)
        case _:
            raise file.wrong(f"a list of [width, height] in multiples of {stride}", "native_sizes")


def _is_size(size: Any, stride: int) -> bool:
    match size:
        case [int(width), int(height)]:
            return width > 0 and height > 0 and not width % stride and not height % stride
        case _:
            return False


def _revision(file: JsonFile) -> str | None:
    return None if file.value_or(None, "revision") is None else file.text("revision")


def _delivery_short_side(file: JsonFile) -> int | None:
    return None if file.value("delivery_short_side") is None else file.whole("delivery_short_side")


def _frames(file: JsonFile, stride: int) -> DefaultRange:
    frames = _default_range(file, "num_frames")
    if any((count - 1) % stride for count in (frames.min, frames.max, frames.default)):
        raise file.wrong(f"three numbers of the form 1 + {stride} n", "num_frames")
    return frames


def _default_range(file: JsonFile, key: str) -> DefaultRange:
    read = DefaultRange(min=file.whole(key, "min"), max=file.whole(key, "max"), default=file.whole(key, "default"))
    if not 1 <= read.min <= read.default <= read.max:
        raise file.wrong("1 <= min <= default <= max", key)
    return read


def _defaults(file: JsonFile) -> Defaults:
    return Defaults(
        num_inference_steps=file.whole("defaults", "num_inference_steps"),
        guidance_scale=file.number("defaults", "guidance_scale"),
        guidance_scale_2=file.number("defaults", "guidance_scale_2"),
        flow_shift=file.number("defaults", "flow_shift"),
        negative_prompt=file.text("defaults", "negative_prompt"),
    )


def _limits(file: JsonFile) -> Limits:
    return Limits(
        num_inference_steps=_range(file, "num_inference_steps"),
        guidance_scale=_range(file, "guidance_scale"),
        flow_shift=_range(file, "flow_shift"),
        prompt_characters=file.whole("limits", "prompt_characters"),
    )


def _range(file: JsonFile, limit: str) -> Range:
    return Range(min=file.number("limits", limit, "min"), max=file.number("limits", limit, "max"))


def _quality(file: JsonFile, tier: str) -> Quality:
    return Quality(
        num_inference_steps=file.whole("quality", tier, "num_inference_steps"),
        guidance_scale=file.number("quality", tier, "guidance_scale"),
        guidance_scale_2=file.number("quality", tier, "guidance_scale_2"),
    )


def _sigma_grid(file: JsonFile) -> SigmaGrid:
    match file.value("sigma_grid"):
        case "official":
            return "official"
        case "diffusers":
            return "diffusers"
        case _:
            raise file.wrong('"official" or "diffusers"', "sigma_grid")
