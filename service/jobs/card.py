"""A model as the gateway knows it: the card that a worker registers. Knows no checkpoint and no Redis."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION: Literal[1] = 1


class CardPart(BaseModel):
    """Wire format: fields that a newer worker adds are left out here, not refused."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Range(CardPart):
    """Legal values, both ends included."""

    min: float
    max: float


class DefaultRange(CardPart):
    """Legal whole numbers, both ends included, and the one taken when none is given."""

    min: int
    max: int
    default: int


class Defaults(CardPart):
    num_inference_steps: int
    guidance_scale: float
    guidance_scale_2: float
    flow_shift: float
    negative_prompt: str


class Limits(CardPart):
    num_inference_steps: Range
    guidance_scale: Range
    """For both experts."""

    flow_shift: Range
    prompt_characters: int


class Quality(CardPart):
    """A named trade of time for quality."""

    num_inference_steps: int
    guidance_scale: float
    guidance_scale_2: float


class Cost(CardPart):
    """FLOP as polynomials of the request's size; model/cost.py says what each term is."""

    forward_flop: float
    forward_flop_per_token: float
    forward_flop_per_token_pair: float
    decode_flop_first_frame_per_site: float
    decode_flop_per_site: float
    decode_flop_per_site_pair: float
    text_flop: float
    token_pixels: int = Field(ge=1)
    site_pixels: int = Field(ge=1)
    frame_stride: int = Field(ge=1)

    def request_flop(
        self, *, width: int, height: int, num_frames: int, num_inference_steps: int, rows_per_step: int
    ) -> float:
        """One whole request at its native size; rows_per_step is 2 with guidance."""
        frames = (num_frames - 1) // self.frame_stride + 1
        tokens = frames * (width // self.token_pixels) * (height // self.token_pixels)
        per_token = self.forward_flop_per_token + self.forward_flop_per_token_pair * tokens
        rows = num_inference_steps * rows_per_step
        sites = (width // self.site_pixels) * (height // self.site_pixels)
        per_site = self.decode_flop_first_frame_per_site + self.decode_flop_per_site * (frames - 1)
        decode = (per_site + self.decode_flop_per_site_pair * sites * frames) * sites
        return rows_per_step * self.text_flop + rows * (self.forward_flop + per_token * tokens) + decode


class Measured(CardPart):
    """What the worker that registered the card took for the card's default request, when warm."""

    seconds_per_step: float = Field(gt=0)
    seconds_per_clip: float = Field(gt=0)
    """From claimed to completed."""

    device: str
    dtype: str


class ModelCard(CardPart):
    """One served model. The gateway validates, snaps, prices and lists from it alone."""

    schema_version: Literal[1] = SCHEMA_VERSION
    id: str
    aliases: tuple[str, ...] = ()
    fingerprint: str
    """SHA-256, hex; changes whenever the same request could give other pixels."""

    revision: str | None = None
    """Of the checkpoint, as those who published it call it."""

    native_sizes: tuple[tuple[int, int], ...] = Field(min_length=1)
    """Width and height at which the model draws well, the default first."""

    delivery_short_side: int | None = None
    """Files are enlarged to at least this short side, in pixels; only native shapes are made then.

    None: files have the native size, and any size up to the largest native area is made.
    """

    num_frames: DefaultRange
    fps: DefaultRange
    defaults: Defaults
    limits: Limits
    quality: dict[str, Quality] = {}
    """draft, standard, high."""

    cost: Cost
    size_stride: int = Field(ge=1)
    """Width and height are multiples of this many pixels."""

    frame_stride: int = Field(ge=1)
    """num_frames is 1 + n * frame_stride."""

    example_prompts: dict[str, tuple[str, ...]] = {}
    """By language: en, zh."""

    description: dict[str, str] = {}
    """What it can draw, by language: en, zh."""

    measured: Measured | None = None
    """None until a worker has warmed up."""

    def answers_to(self, name: str) -> bool:
        """Whether a request's `model` means this card; case does not matter."""
        return name.casefold() in {known.casefold() for known in (self.id, *self.aliases)}

    def delivery_size(self, native: tuple[int, int]) -> tuple[int, int]:
        """Width and height of the file for a native size; even numbers, as H.264 wants them."""
        width, height = native
        scale = max(1.0, (self.delivery_short_side or 0) / min(width, height))
        return round(width * scale / 2) * 2, round(height * scale / 2) * 2

    def estimated_seconds(
        self, *, width: int, height: int, num_frames: int, num_inference_steps: int, rows_per_step: int
    ) -> float | None:
        """From claimed to completed, by the worker's own measurement; None before there is one."""
        if self.measured is None:
            return None
        default_width, default_height = self.native_sizes[0]
        flop = self.cost.request_flop(
            width=width,
            height=height,
            num_frames=num_frames,
            num_inference_steps=num_inference_steps,
            rows_per_step=rows_per_step,
        )
        default_flop = self.cost.request_flop(
            width=default_width,
            height=default_height,
            num_frames=self.num_frames.default,
            num_inference_steps=self.defaults.num_inference_steps,
            rows_per_step=2,
        )
        return self.measured.seconds_per_clip * flop / default_flop
