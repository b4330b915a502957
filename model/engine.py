"""The engine: parameters in, frames out. Knows no job, no Redis, no HTTP.

    engine = Engine.from_pretrained("embedded")
    frames = engine.generate(engine.card.default_params("a red circle moves to the left"))

generate() is prepare(), step() until denoised, decode(); whoever runs several requests calls these itself.
step() advances any set of requests at once, each with its own number of steps, guidance, shift and seed. All state of
a request is in its Request: requests come, go and change company between any two steps.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model import acceleration
from model.attention import rotary_table
from model.card import CheckpointCard
from model.cost import guidance_rows
from model.decoding import Decode, decode_together, stacks_of
from model.describe import read_card
from model.errors import EngineError, InvalidState, OutOfMemory
from model.folder import EMBEDDED, open_folder
from model.frames import Frames
from model.loader import Parts, load_parts
from model.memory import MemoryPlan, check_fits
from model.params import GenerationParams
from model.preview import PreviewMap, open_preview
from model.progress import Progress, ignore_progress, never, stop_if
from model.prompt_cache import PromptCache
from model.request import Request, initial_noise
from model.saved_state import Origin, from_bytes, to_bytes
from model.schedule import Schedule, make_schedule
from model.shapes import CheckpointShape
from model.stepper import BatchDone, Stepper, out_of_memory, synchronize
from model.text import clean_prompt, count_tokens, prompt_embeds
from model.unipc import SolverState, solver_weights
from model.vae import decode_chunks


class Engine:
    """A checkpoint on a device: weights and caches, no request. Not for use by several threads at once.

    batch_invariant: a request's numbers then never depend on its company, bit by bit. Without it they may differ in
    the last digits, as matrix products of other sizes round in another order.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        shape: CheckpointShape,
        card: CheckpointCard,
        preview: PreviewMap,
        batch_invariant: bool = False,
    ) -> None:
        self.card = card
        self._parts = parts
        self._shape = shape
        self._preview = preview
        self._prompts = PromptCache()
        self._stepper = Stepper(parts, max_text_tokens=shape.text.max_tokens, batch_invariant=batch_invariant)

    @classmethod
    def from_pretrained(
        cls,
        checkpoint: str | Path = EMBEDDED,
        *,
        device: str = "auto",
        dtype: str = "auto",
        batch_invariant: bool = False,
        residency: str = "auto",
        attention_backend: str = "native",
        compile_blocks: bool = False,
    ) -> "Engine":
        """Loads a Wan2.2 text-to-video folder in diffusers layout, or "embedded".

        device: auto, cpu, cuda, cuda:1, mps; dtype: auto, float32, bfloat16, float16; residency of the experts: auto,
        both, swap, rolling; attention_backend: native, cudnn, flash, flash3, sage. A backend or compiler that can't
        work here is left out with a warning.
        Raises CheckpointError, OutOfMemory, and ValueError for a device or dtype that isn't there.
        """
        acceleration.check_attention_backend(attention_backend)
        folder = open_folder(checkpoint)
        card = read_card(folder)
        parts = load_parts(folder, device=device, dtype=dtype, residency=residency)
        try:
            preview = open_preview(folder.path, parts.vae)
        except torch.OutOfMemoryError as e:
            raise OutOfMemory(f"The preview map can't be fitted on {parts.device}: too little memory. {e}") from e
        engine = cls(parts, shape=folder.shape, card=card, preview=preview, batch_invariant=batch_invariant)
        acceleration.use_attention_backend(parts.runnable, attention_backend)
        if compile_blocks:
            acceleration.compile_blocks(parts.runnable, trial=engine.warm_up)
        return engine

    @property
    def device(self) -> torch.device:
        return self._parts.device

    @property
    def dtype(self) -> torch.dtype:
        return self._parts.dtype

    @property
    def shape(self) -> CheckpointShape:
        return self._shape

    @property
    def memory(self) -> MemoryPlan:
        return self._parts.memory

    @property
    def swap_seconds(self) -> float:
        """How long forwards have waited for an expert's weights, since the start."""
        return self._parts.residency.stats.swap_seconds

    def generate(
        self,
        params: GenerationParams,
        *,
        on_progress: Callable[[Progress], None] = ignore_progress,
        should_cancel: Callable[[], bool] = never,
    ) -> Frames:
        """Makes one video. The same parameters give the same pixels.

        should_cancel is asked before every step and chunk; True raises Cancelled.
        Raises InvalidParams, OutOfMemory, NotFinite.
        """
        request = self.prepare(params)
        on_progress(Progress.of(request))
        while not request.is_denoised:
            stop_if(should_cancel, request)
            for error in self.step([request]).values():
                raise error
            on_progress(Progress.of(request))
        return self.decode(request, on_progress=on_progress, should_cancel=should_cancel)

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
        self.check(params)
        with self._translated_errors(params):
            return self._new_request(params, initial_noise(self._latent_shape(params), params.seed, device=self.device))

    def check(self, params: GenerationParams) -> None:
        """Raises InvalidParams for what the checkpoint can't make, or this device can't hold."""
        self.card.check(params)
        check_fits(self._parts.memory, self._shape, params)

    def save(self, request: Request) -> bytes:
        """The request between two steps, as one safetensors file; see resume()."""
        return to_bytes(request, self._origin)

    @torch.inference_mode()
    def resume(self, state: bytes) -> Request:
        """A saved request that goes on where it stood, bit by bit as if it had never stopped.

        Raises InvalidState for what another checkpoint, dtype or version saved, InvalidParams, OutOfMemory.
        """
        saved = from_bytes(state, self._origin)
        self.check(saved.params)
        shape, num_steps = self._latent_shape(saved.params), saved.params.num_inference_steps
        if saved.latents.shape != shape or not 0 <= saved.step <= num_steps:
            raise InvalidState("The saved state does not fit its own parameters. Start the job again.")
        with self._translated_errors(saved.params):
            request = self._new_request(saved.params, saved.latents.to(self.device))
            request.solver = saved.solver.to(self.device)
        request.step = saved.step
        request.denoise_seconds = saved.denoise_seconds
        return request

    def watch(self, on_batch: Callable[[BatchDone], None]) -> None:
        """on_batch: told of every batch that was stepped, within step()."""
        self._stepper.on_batch = on_batch

    @torch.inference_mode()
    def step(self, requests: Sequence[Request]) -> dict[Request, EngineError]:
        """One denoising step of every request. Returns those that could not take it, unchanged, each with its error.

        Requests of equal latent shape whose turn is the same expert share a forward. Where memory is short that is
        halved, down to a single request: only one that does not fit by itself fails, with OutOfMemory. NotFinite:
        its numbers overflowed in this step. Raises ValueError for a request that is there twice or denoised already;
        after any other error the requests are good for nothing.
        """
        return self._stepper.step(requests)

    def park(self, request: Request) -> None:
        """Moves a request between two steps to host memory; unpark() it before its next one."""
        request.text = None
        request.rotary = request.rotary.new_empty(0)
        request.move(torch.device("cpu"))

    @torch.inference_mode()
    def unpark(self, request: Request) -> None:
        """Raises OutOfMemory; the request then stays parked."""
        with self._translated_errors(request.params):
            request.rotary = rotary_table(self._parts.residency.on_device, request.latents.to(self.device))
            request.move(self.device)

    def preview(self, request: Request) -> NDArray[np.uint8]:
        """A small picture f h w 3 of what the request is becoming, a pixel for every latent site; nearly free."""
        # What the denoiser expects in the end is clearer than what it is given.
        return self._preview.pixels(request.solver.clean if request.step else request.latents)

    def decode(
        self,
        request: Request,
        *,
        on_progress: Callable[[Progress], None] = ignore_progress,
        should_cancel: Callable[[], bool] = never,
    ) -> Frames:
        """The video of a denoised request. should_cancel: see generate(). Raises OutOfMemory, Cancelled."""
        [frames] = self.decode_all([Decode(request, on_progress, should_cancel)])
        return frames.result()

    def decode_all(self, decodes: Sequence[Decode]) -> list[Future[Frames]]:
        """Every outcome, in order. Each has the pixels of a decode alone; on a CPU small videos go together.

        What a decode raises, OutOfMemory, Cancelled or what its callbacks did, is in its own future alone.
        """
        for stack in stacks_of(decodes, shape=self._shape, vae=self._parts.vae):
            decode_together(self._parts.vae, stack)
        return [decode.frames for decode in decodes]

    @torch.inference_mode()
    def decode_chunks(self, request: Request) -> Iterator[NDArray[np.uint8]]:
        """The same in pieces as they come, f h w 3 each: one frame, then frame_stride frames every time."""
        if not request.is_denoised:
            raise ValueError(f"{request.remaining_steps} denoising steps remain: step() first.")
        with self._translated_errors(request.params):
            yield from decode_chunks(self._parts.vae, request.latents)

    def count_tokens(self, prompt: str) -> int:
        """Of the whole prompt; the text encoder sees the first max_prompt_tokens of them."""
        return count_tokens(clean_prompt(prompt), self._parts.tokenizer)

    @property
    def max_prompt_tokens(self) -> int:
        return self._shape.text.max_tokens

    def schedule(self, params: GenerationParams) -> Schedule:
        return make_schedule(
            params.num_inference_steps,
            params.flow_shift,
            grid=self.card.sigma_grid,
            boundary_timestep=self._shape.boundary_timestep,
            num_train_timesteps=self._shape.num_train_timesteps,
        )

    @property
    def _origin(self) -> Origin:
        return Origin(fingerprint=self.card.fingerprint, dtype=str(self.dtype).removeprefix("torch."))

    def _latent_shape(self, params: GenerationParams) -> tuple[int, ...]:
        return self._shape.latent_shape(width=params.width, height=params.height, num_frames=params.num_frames)

    def _new_request(self, params: GenerationParams, latents: torch.Tensor) -> Request:
        started = time.monotonic()
        positive = self._prompt_embeds(params.prompt)
        negative = self._prompt_embeds(params.negative_prompt) if _is_guided(params) else None
        rotary = rotary_table(self._parts.residency.on_device, latents)
        synchronize(self.device)
        schedule = self.schedule(params)
        return Request(
            params=params,
            schedule=schedule,
            weights=solver_weights(schedule),
            latents=latents,
            solver=SolverState.before_first_step(latents),
            rotary=rotary,
            prompt_embeds=positive,
            negative_prompt_embeds=negative,
            text_seconds=time.monotonic() - started,
        )

    def _prompt_embeds(self, prompt: str) -> torch.Tensor:
        return self._prompts.get(clean_prompt(prompt), self._encode_prompt)

    def _encode_prompt(self, prompt: str) -> torch.Tensor:
        embeds = prompt_embeds(
            prompt,
            tokenizer=self._parts.tokenizer,
            text_encoder=self._parts.text_encoder,
            max_tokens=self._shape.text.max_tokens,
        )
        return embeds.to(self.device)

    @contextlib.contextmanager
    def _translated_errors(self, params: GenerationParams) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError as e:
            raise out_of_memory(params, self.device, e) from e


def _is_guided(params: GenerationParams) -> bool:
    return max(guidance_rows(params.guidance_scale), guidance_rows(params.guidance_scale_2)) > 1
