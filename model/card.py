"""What a checkpoint can make, at which settings and at what cost: all that a service must know of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from model.cost import CostCoefficients
from model.errors import InvalidParams
from model.params import GenerationParams
from model.schedule import SigmaGrid


@dataclass(frozen=True, slots=True)
class Range:
    """Legal values, both ends included."""

    min: float
    max: float


@dataclass(frozen=True, slots=True)
class DefaultRange:
    """Legal whole numbers, both ends included, and the one taken when none is given."""

    min: int
    max: int
    default: int


@dataclass(frozen=True, slots=True)
class Defaults:
    num_inference_steps: int
    guidance_scale: float
    guidance_scale_2: float
    flow_shift: float
    negative_prompt: str


@dataclass(frozen=True, slots=True)
class Limits:
    num_inference_steps: Range
    guidance_scale: Range
    """For both experts."""

    flow_shift: Range
    prompt_characters: int


@dataclass(frozen=True, slots=True)
class Quality:
    """A named trade of time for quality."""

    num_inference_steps: int
    guidance_scale: float
    guidance_scale_2: float


@dataclass(frozen=True, slots=True)
class CheckpointCard:
    """One checkpoint's description."""

    id: str
    aliases: tuple[str, ...]
    fingerprint: str
    """SHA-256, hex; changes whenever the same request could give other pixels."""

    revision: str | None
    """As those who published the checkpoint call it; None where the folder does not tell."""

    native_sizes: tuple[tuple[int, int], ...]
    """Width and height at which the checkpoint draws well, the default first."""

    delivery_short_side: int | None
    """Finished files are enlarged to at least this short side, in pixels; None delivers the native size."""

    num_frames: DefaultRange
    fps: DefaultRange
    defaults: Defaults
    limits: Limits
    quality: Mapping[str, Quality]
    """draft, standard, high."""

    cost: CostCoefficients
    sigma_grid: SigmaGrid
    size_stride: int
    """Width and height must be multiples of this many pixels."""

    frame_stride: int
    """num_frames must be 1 + n * frame_stride."""

    max_size_pixels: int
    """Width and height can't exceed this: the positions that the transformer can tell apart."""

    example_prompts: Mapping[str, tuple[str, ...]]
    """By language: en, zh."""

    description: Mapping[str, str]
    """What it can draw, by language: en, zh."""

    def default_params(self, prompt: str, *, seed: int = 0) -> GenerationParams:
        """The card's defaults around a prompt; dataclasses.replace() changes single values."""
        width, height = self.native_sizes[0]
        return GenerationParams(
            prompt=prompt,
            negative_prompt=self.defaults.negative_prompt,
            width=width,
            height=height,
            num_frames=self.num_frames.default,
            fps=self.fps.default,
            num_inference_steps=self.defaults.num_inference_steps,
            guidance_scale=self.defaults.guidance_scale,
            guidance_scale_2=self.defaults.guidance_scale_2,
            flow_shift=self.defaults.flow_shift,
            seed=seed,
        )

    def check(self, params: GenerationParams) -> None:
        """Raises InvalidParams for what can't be made here. Sizes need not be native ones."""
        for name in ("width", "height", "num_frames", "fps", "num_inference_steps", "seed"):
            value = getattr(params, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise InvalidParams(f"{name} is {value!r}; give a whole number.")
        for name in ("guidance_scale", "guidance_scale_2", "flow_shift"):
            value = getattr(params, name)
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise InvalidParams(f"{name} is {value!r}; give a number.")
        self._check_size("width", params.width)
        self._check_size("height", params.height)
        self._check_frames(params.num_frames)
        _check_range("fps", params.fps, self.fps)
        _check_range("num_inference_steps", params.num_inference_steps, self.limits.num_inference_steps)
        _check_range("guidance_scale", params.guidance_scale, self.limits.guidance_scale)
        _check_range("guidance_scale_2", params.guidance_scale_2, self.limits.guidance_scale)
        _check_range("flow_shift", params.flow_shift, self.limits.flow_shift)
        if not 0 <= params.seed < 2**63:
            raise InvalidParams(f"seed is {params.seed}; give 0 to 2**63 - 1.")
        if not params.prompt.strip():
            raise InvalidParams("prompt is empty: say what to draw.")
        self._check_text("prompt", params.prompt)
        self._check_text("negative_prompt", params.negative_prompt)

    def _check_size(self, name: str, pixels: int) -> None:
        if pixels % self.size_stride or not 0 < pixels <= self.max_size_pixels:
            raise InvalidParams(
                f"{name} is {pixels}; give a multiple of {self.size_stride} up to {self.max_size_pixels}."
            )

    def _check_text(self, name: str, text: str) -> None:
        most = self.limits.prompt_characters
        if len(text) > most:
            raise InvalidParams(f"{name} has {len(text)} characters; at most {most} are taken.")
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise InvalidParams(f"{name} holds half a surrogate pair; give valid Unicode.")

    def _check_frames(self, num_frames: int) -> None:
        _check_range("num_frames", num_frames, self.num_frames)
        if (num_frames - 1) % self.frame_stride:
            raise InvalidParams(f"num_frames is {num_frames}; give 1 + a multiple of {self.frame_stride}.")


def _check_range(name: str, value: float, legal: Range | DefaultRange) -> None:
    # NaN fails both comparisons.
    if not (legal.min <= value <= legal.max):
        raise InvalidParams(f"{name} is {value}; give {legal.min:g} to {legal.max:g}.")
