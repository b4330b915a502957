"""The engine: parameters in, frames out. Knows no job, no Redis, no HTTP.

    engine = Engine.from_pretrained("embedded")
    frames = engine.generate(engine.card.default_params("a red circle moves to the left"))

generate() is prepare(), step() until denoised, decode(); whoever runs several requests calls these itself.
All state of a request is in its Request, so that requests can be interleaved between steps.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model.card import CheckpointCard
from model.cost import guidance_rows
from model.denoise import guide, predict_velocity, rotary_table
from model.describe import read_card
from model.errors import Cancelled, NotFinite, OutOfMemory
from model.folder import EMBEDDED, open_folder
from model.frames import Frames, StageSeconds
from model.loader import Parts, load_parts
from model.params import GenerationParams
from model.request import ExpertText, Request, initial_noise
from model.schedule import Schedule, make_schedule
from model.shapes import CheckpointShape
from model.text import prompt_embeds, text_keys_values
from model.unipc import solver_step
from model.vae import decode_chunks


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one generation is; reported after the text, every step and every decoded chunk."""

    completed_steps: int
    num_inference_steps: int
    completed_frames: int
    num_frames: int

    @property
    def fraction(self) -> float:
        """0..1; decoding counts as one step."""
        decoded = self.completed_frames / self.num_frames
        return (self.completed_steps + decoded) / (self.num_inference_steps + 1)


class Engine:
    """A checkpoint on a device. Not for use by several threads at once."""

    def __init__(self, parts: Parts, *, shape: CheckpointShape, card: CheckpointCard) -> None:
        self.card = card
        self._parts = parts
        self._shape = shape

    @classmethod
    def from_pretrained(
        cls, checkpoint: str | Path = EMBEDDED, *, device: str = "auto", dtype: str = "auto"
    ) -> "Engine":
        """Loads a Wan2.2 text-to-video folder in diffusers layout, or "embedded".

        device: auto, cpu, cuda, cuda:1, mps; dtype: auto, float32, bfloat16, float16.
        Raises CheckpointError, OutOfMemory, and ValueError for a device or dtype that isn't there.
        """
        folder = open_folder(checkpoint)
        card = read_card(folder)
        return cls(load_parts(folder, device=device, dtype=dtype), shape=folder.shape, card=card)

    @property
    def device(self) -> torch.device:
        return self._parts.device

    @property
    def dtype(self) -> torch.dtype:
        return self._parts.dtype

    def generate(
        self,
        params: GenerationParams,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        should_cancel: Callable[[], bool] | None = None,
    ) -> Frames:
        """Makes one video. The same parameters give the same pixels.

        should_cancel is asked before every step and chunk; True raises Cancelled.
        Raises InvalidParams, OutOfMemory, NotFinite.
        """
        report = on_progress or _ignore_progress
        is_cancelled = should_cancel or _never
        request = self.prepare(params)
        report(_progress(request))
        while not request.is_denoised:
            _stop_if(is_cancelled, request)
            self.step(request)
            report(_progress(request))
        return self._decode_reporting(request, report, is_cancelled)

    def warm_up(self) -> None:
        """Runs every part once, on a small clip: the first request then pays for no lazy initialisation."""
        card = self.card
        width, height = min(card.native_sizes, key=lambda size: size[0] * size[1])
        clip = dataclasses.replace(
            card.default_params("warm-up"),
            width=width,
            height=height,
            num_frames=max(card.num_frames.min, min(card.num_frames.max, 1 + 2 * card.frame_stride)),
            # Few enough to be quick, enough to reach the low-noise expert at the recipe's shift.
            num_inference_steps=min(4, card.defaults.num_inference_steps),
        )
        self.generate(clip)

    @torch.inference_mode()
    def prepare(self, params: GenerationParams) -> Request:
        """Encodes the text and draws the noise. Raises InvalidParams, OutOfMemory."""
        self.card.check(params)
        started = time.monotonic()
        with self._translated_errors(params):
            positive = self._prompt_embeds(params.prompt)
            negative = self._prompt_embeds(params.negative_prompt) if _is_guided(params) else None
            size = {"width": params.width, "height": params.height, "num_frames": params.num_frames}
            latents = initial_noise(self._shape.latent_shape(**size), params.seed, device=self.device)
            rotary = rotary_table(self._parts.experts.high_noise, latents)
            self._synchronize()
        return Request(
            params=params,
            schedule=self.schedule(params),
            latents=latents,
            rotary=rotary,
            prompt_embeds=positive,
            negative_prompt_embeds=negative,
            text_seconds=time.monotonic() - started,
        )

    @torch.inference_mode()
    def step(self, request: Request) -> None:
        """One denoising step. Raises OutOfMemory; the request is then unchanged."""
        started = time.monotonic()
        with self._translated_errors(request.params):
            text = self._expert_text(request)
            velocity = predict_velocity(
                self._parts.experts[request.expert],
                request.latents,
                timestep=request.timestep,
                text=text.blocks,
                rotary=request.rotary,
            )
            latents, solver = solver_step(
                request.solver,
                guide(velocity, request.guidance_scale),
                latents=request.latents,
                schedule=request.schedule,
                step=request.step,
            )
            self._synchronize()
        request.text, request.latents, request.solver = text, latents, solver
        request.step += 1
        request.denoise_seconds += time.monotonic() - started

    def decode(self, request: Request) -> Frames:
        """The video of a denoised request. Raises NotFinite, OutOfMemory."""
        return self._decode_reporting(request, _ignore_progress, _never)

    @torch.inference_mode()
    def decode_chunks(self, request: Request) -> Iterator[NDArray[np.uint8]]:
        """The same in pieces as they come, f h w 3 each: one frame, then frame_stride frames every time."""
        if not request.is_denoised:
            raise ValueError(f"{request.remaining_steps} denoising steps remain: step() first.")
        if not torch.isfinite(request.latents).all():
            raise NotFinite(
                f"Denoising in {self.dtype} overflowed. Load the checkpoint with dtype bfloat16 or float32."
            )
        with self._translated_errors(request.params):
            yield from decode_chunks(self._parts.vae, request.latents)

    def schedule(self, params: GenerationParams) -> Schedule:
        return make_schedule(
            params.num_inference_steps,
            params.flow_shift,
            grid=self.card.sigma_grid,
            boundary_timestep=self._shape.boundary_timestep,
            num_train_timesteps=self._shape.num_train_timesteps,
        )

    def _decode_reporting(
        self, request: Request, report: Callable[[Progress], None], is_cancelled: Callable[[], bool]
    ) -> Frames:
        started = time.monotonic()
        chunks: list[NDArray[np.uint8]] = []
        _stop_if(is_cancelled, request)
        for chunk in self.decode_chunks(request):
            chunks.append(chunk)
            report(_progress(request, completed_frames=sum(len(done) for done in chunks)))
            _stop_if(is_cancelled, request)
        seconds = StageSeconds(
            text=request.text_seconds,
            denoise=request.denoise_seconds,
            decode=time.monotonic() - started,
        )
        return Frames(pixels=np.concatenate(chunks), fps=request.params.fps, seconds=seconds)

    def _prompt_embeds(self, prompt: str) -> torch.Tensor:
        return prompt_embeds(
            prompt,
            tokenizer=self._parts.tokenizer,
            text_encoder=self._parts.text_encoder,
            max_tokens=self._shape.text.max_tokens,
        )

    def _expert_text(self, request: Request) -> ExpertText:
        """The text for the expert of the next step; made anew only when the expert changes."""
        if request.text is not None and request.text.expert == request.expert:
            return request.text
        transformer = self._parts.experts[request.expert]
        blocks = text_keys_values(transformer, request.rows, max_tokens=self._shape.text.max_tokens)
        return ExpertText(expert=request.expert, blocks=blocks)

    def _synchronize(self) -> None:
        # Kernels are queued: without waiting, progress would run ahead of the work and cancelling behind it.
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    @contextlib.contextmanager
    def _translated_errors(self, params: GenerationParams) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError as e:
            raise OutOfMemory(
                f"{params.num_frames} frames of {params.width}x{params.height} do not fit into the memory of "
                f"{self.device}: ask for fewer frames or a smaller size. {e}"
            ) from e


def _is_guided(params: GenerationParams) -> bool:
    return max(guidance_rows(params.guidance_scale), guidance_rows(params.guidance_scale_2)) > 1


def _progress(request: Request, *, completed_frames: int = 0) -> Progress:
    return Progress(
        completed_steps=request.step,
        num_inference_steps=request.schedule.num_steps,
        completed_frames=completed_frames,
        num_frames=request.params.num_frames,
    )


def _stop_if(is_cancelled: Callable[[], bool], request: Request) -> None:
    if is_cancelled():
        raise Cancelled(f"Cancelled after {request.step} of {request.schedule.num_steps} steps.")


def _ignore_progress(progress: Progress) -> None:
    pass


def _never() -> bool:
    return False
