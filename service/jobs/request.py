"""From what a caller asked to what will be made: validation, defaults, snapping. Pure."""

import math
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

from service.errors import InvalidRequest
from service.jobs.cache import MAX_DRAWN_SEED, seed_of
from service.jobs.card import DefaultRange, ModelCard, Range
from service.jobs.fields import Flag, Number, Text, Whole, listed, validated
from service.jobs.record import EVENT_TYPES, EventType, Priority, VideoRequest, VisibleLabel
from service.jobs.visible_label import AskedLabel

MAX_SEED = 2**63 - 1
MAX_DEADLINE_SECONDS = 7 * 24 * 3600
UNSUPPORTED = ("input_reference", "input_references", "image", "image_url", "video_url", "reference_url")
"""Inputs that a text-to-video model must not silently leave out."""

KEPT_BY_REMIX = (
    "model",
    "negative_prompt",
    "width",
    "height",
    "num_frames",
    "fps",
    "num_inference_steps",
    "guidance_scale",
    "guidance_scale_2",
    "flow_shift",
    "seed",
)
"""Parameters that decide the pixels beside the prompt."""


EventTypes = Annotated[tuple[EventType, ...], BeforeValidator(listed), Field(min_length=1)]


FlagOrLabel = Annotated[
    Annotated[Flag, Tag("flag")] | Annotated[AskedLabel, Tag("label")],
    Discriminator(lambda value: "label" if isinstance(value, Mapping | AskedLabel) else "flag"),
]


class RequestedWebhook(BaseModel):
    """Where the video's event is to be sent. URL and secret are judged by service.webhooks."""

    model_config = ConfigDict(frozen=True, extra="allow")

    url: Text = Field(max_length=2048)
    events: EventTypes = EVENT_TYPES
    secret: Text | None = Field(None, max_length=256, repr=False)


class RequestedVideo(BaseModel):
    """The fields that we understand, as given; None is "not given". Others stay in model_extra."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    model: Text | None = None
    prompt: Text
    negative_prompt: Text | None = None
    size: str | None = Field(None, pattern=r"^\s*\d{1,6}\s*[xX*×]\s*\d{1,6}\s*$")
    width: Whole | None = Field(None, ge=16, le=8192)
    height: Whole | None = Field(None, ge=16, le=8192)
    seconds: Number | None = Field(None, gt=0, le=600)
    num_frames: Whole | None = Field(None, ge=1, le=10_000)
    fps: Whole | None = Field(None, ge=1, le=240)
    num_inference_steps: Whole | None = Field(None, ge=1, le=1000)
    guidance_scale: Number | None = Field(None, ge=0, le=100)
    guidance_scale_2: Number | None = Field(None, ge=0, le=100)
    flow_shift: Number | None = Field(None, gt=0, le=1000)
    seed: Whole | None = Field(None, ge=-1, le=MAX_SEED)
    quality: str | None = None
    strict: Flag = False
    extend_prompt: Flag = False
    priority: Priority = "standard"
    deadline_seconds: Number | None = Field(None, ge=1, le=MAX_DEADLINE_SECONDS)
    cache: Literal["use", "bypass"] = "use"
    metadata: dict[Text, Text] = Field({}, max_length=16)
    file_name: Text | None = Field(None, max_length=128, pattern=r"^[^/\\\x00-\x1f\x7f\"]+$")
    webhook: RequestedWebhook | None = None
    visible_label: FlagOrLabel | None = None

    @property
    def unknown_fields(self) -> tuple[str, ...]:
        of_webhook = {} if self.webhook is None else self.webhook.model_extra or {}
        return tuple(sorted([*(self.model_extra or {}), *(f"webhook.{name}" for name in of_webhook)]))

    @property
    def asked_size(self) -> tuple[int | None, int | None]:
        """Width and height; size fills in what they leave out."""
        if self.size is None:
            return self.width, self.height
        width, height = (int(side) for side in re.findall(r"\d+", self.size))
        return self.width or width, self.height or height


@dataclass(frozen=True, slots=True)
class ResolvedVideo:
    """What will be made."""

    request: VideoRequest
    ignored: tuple[str, ...]
    """Fields of the body that mean nothing to us."""

    changed: Mapping[str, tuple[object, object]]
    """By field: what was asked and what is taken instead."""


def parse(fields: Mapping[str, Any]) -> RequestedVideo:
    """Check types and absolute bounds. Raises InvalidRequest with the first wrong field as param."""
    for name in UNSUPPORTED:
        if fields.get(name) not in (None, "", [], {}):
            raise InvalidRequest(f"{name} is not supported: this is a text-to-video model.", param=name)
    return validated(RequestedVideo, fields)


def parse_remix(fields: Mapping[str, Any], original: VideoRequest) -> RequestedVideo:
    """The original's effective parameters with another prompt. fields may add what changes no pixel.

    Raises InvalidRequest as parse(), and for fields that contradict the original.
    """
    for name in (*KEPT_BY_REMIX, "size", "seconds", "quality"):
        if fields.get(name) is not None:
            raise InvalidRequest(
                f"{name} can't be changed by a remix, which keeps its original's: send a new request.", param=name
            )
    kept = {name: getattr(original, name) for name in KEPT_BY_REMIX}
    size = {"width": original.delivery_width, "height": original.delivery_height}
    return parse({**fields, **kept, **size})


def resolve(
    asked: RequestedVideo,
    card: ModelCard,
    *,
    label: VisibleLabel | None = None,
    draw_seed: Callable[[int], int] = secrets.randbelow,
) -> ResolvedVideo:
    """Fill in the card's defaults and snap to what it can make. label: from visible_label().

    Raises InvalidRequest for an empty or too long prompt, for values that contradict each other and, when
    asked.strict, for anything that would be changed or ignored.
    """
    prompt = _checked_prompt(asked.prompt, "prompt", card)
    if not prompt.strip():
        raise InvalidRequest("prompt is empty: say what to draw.", param="prompt")
    limits, defaults = card.limits, card.defaults
    negative_prompt = defaults.negative_prompt if asked.negative_prompt is None else asked.negative_prompt
    native = _native_size(asked, card)
    delivery = card.delivery_size(native)
    fps = int(_clamped(asked.fps, card.fps, card.fps.default))
    num_frames = _num_frames(asked, card, fps)
    steps, high, low = _quality(asked, card)
    request = VideoRequest(
        model=card.id,
        prompt=prompt,
        negative_prompt=_checked_prompt(negative_prompt, "negative_prompt", card),
        width=native[0],
        height=native[1],
        delivery_width=delivery[0],
        delivery_height=delivery[1],
        num_frames=num_frames,
        fps=fps,
        seconds=_seconds(num_frames, fps, card),
        num_inference_steps=int(_clamped(asked.num_inference_steps, limits.num_inference_steps, steps)),
        guidance_scale=_clamped(asked.guidance_scale, limits.guidance_scale, high),
        guidance_scale_2=_clamped(asked.guidance_scale_2, limits.guidance_scale, low),
        flow_shift=_clamped(asked.flow_shift, limits.flow_shift, defaults.flow_shift),
        seed=draw_seed(MAX_DRAWN_SEED) if asked.seed == -1 else asked.seed or 0,
        visible_label=label,
    )
    if asked.seed is None:
        request = request.model_copy(update={"seed": seed_of(request)})
    changed = _changed(asked, request)
    if asked.strict:
        _refuse_changes(changed, asked.unknown_fields)
    return ResolvedVideo(request, ignored=asked.unknown_fields, changed=changed)


def _checked_prompt(text: str, param: str, card: ModelCard) -> str:
    if len(text) > card.limits.prompt_characters:
        raise InvalidRequest(
            f"{param} has {len(text)} characters; {card.id} takes at most {card.limits.prompt_characters}.",
            param=param,
        )
    return text


def _native_size(asked: RequestedVideo, card: ModelCard) -> tuple[int, int]:
    width, height = asked.asked_size
    if width is None and height is None:
        return card.native_sizes[0]
    for param, side in (("width", width), ("height", height)):
        if side is None:
            raise InvalidRequest(f"{param} is missing: give width and height, or size.", param=param)
        if not 16 <= side <= 8192:
            raise InvalidRequest(f"size: each side must be 16 to 8192 pixels, not {side}.", param="size")
    assert width is not None
    assert height is not None
    if card.delivery_short_side is not None:
        return _closest_shape(width, height, card.native_sizes)
    return _within_area(width, height, card)


@lru_cache(maxsize=1024)
def _closest_shape(width: int, height: int, sizes: tuple[tuple[int, int], ...]) -> tuple[int, int]:
    """The native size whose aspect ratio is nearest; of equal ones the one nearest in area."""
    aspect, area = math.log(width / height), math.log(width * height)
    return min(
        sizes,
        key=lambda size: (
            round(abs(math.log(size[0] / size[1]) - aspect), 6),
            abs(math.log(size[0] * size[1]) - area),
        ),
    )


def _within_area(width: int, height: int, card: ModelCard) -> tuple[int, int]:
    """Sides to the stride; shrunk in shape where the area is beyond the largest native one."""
    largest = max(w * h for w, h in card.native_sizes)
    scale = min(1.0, math.sqrt(largest / (width * height)))
    sides = [_to_stride(side * scale, card.size_stride) for side in (width, height)]
    while sides[0] * sides[1] > largest:
        longer = sides.index(max(sides))
        sides[longer] -= card.size_stride
    return sides[0], sides[1]


def _to_stride(side: float, stride: int) -> int:
    return max(stride, round(side / stride) * stride)


def _num_frames(asked: RequestedVideo, card: ModelCard, fps: int) -> int:
    from_seconds = None if asked.seconds is None else _snap_frames(asked.seconds * fps, card)
    if asked.num_frames is None:
        return card.num_frames.default if from_seconds is None else from_seconds
    num_frames = _snap_frames(asked.num_frames, card)
    if from_seconds is not None and from_seconds != num_frames:
        raise InvalidRequest(
            f"seconds and num_frames contradict each other: {asked.seconds:g} s at {fps} fps are "
            f"{from_seconds} frames, num_frames gives {num_frames}. Send one of them.",
            param="seconds",
        )
    return num_frames


def _snap_frames(wanted: float, card: ModelCard) -> int:
    """The nearest 1 + n * stride between the card's bounds; halfway goes up."""
    steps = math.floor((wanted - 1) / card.frame_stride + 0.5)
    snapped = 1 + max(0, steps) * card.frame_stride
    return min(max(snapped, card.num_frames.min), card.num_frames.max)


def _seconds(num_frames: int, fps: int, card: ModelCard) -> str:
    whole = round(num_frames / fps)
    if whole >= 1 and abs(whole * fps - num_frames) <= card.frame_stride / 2:
        return str(whole)
    return f"{num_frames / fps:.3f}".rstrip("0").rstrip(".")


def _quality(asked: RequestedVideo, card: ModelCard) -> tuple[int, float, float]:
    """Steps and both guidance scales for what the caller does not set itself."""
    if asked.quality is None:
        defaults = card.defaults
        return defaults.num_inference_steps, defaults.guidance_scale, defaults.guidance_scale_2
    tier = card.quality.get(asked.quality)
    if tier is None:
        legal = ", ".join(card.quality) or "none for this model"
        raise InvalidRequest(f"quality {asked.quality!r} is unknown; known are: {legal}.", param="quality")
    return tier.num_inference_steps, tier.guidance_scale, tier.guidance_scale_2


def _clamped(value: float | None, legal: Range | DefaultRange, default: float) -> float:
    return min(max(default if value is None else value, legal.min), legal.max)


def _changed(asked: RequestedVideo, request: VideoRequest) -> dict[str, tuple[object, object]]:
    width, height = asked.asked_size
    taken = {
        "width": (width, request.delivery_width),
        "height": (height, request.delivery_height),
        "num_frames": (asked.num_frames, request.num_frames),
        "seconds": (asked.seconds, float(request.seconds)),
        **{
            name: (getattr(asked, name), getattr(request, name))
            for name in ("fps", "num_inference_steps", "guidance_scale", "guidance_scale_2", "flow_shift")
        },
    }
    return {name: pair for name, pair in taken.items() if pair[0] is not None and pair[0] != pair[1]}


def _refuse_changes(changed: Mapping[str, tuple[object, object]], unknown: tuple[str, ...]) -> None:
    for name, (wanted, taken) in changed.items():
        raise InvalidRequest(f"{name} {wanted} can't be made; the nearest is {taken}.", param=name)
    if unknown:
        raise InvalidRequest(f"Unknown field: {', '.join(unknown)}.", param=unknown[0])
