"""One claimed job on its way through the engine, from noise to frames."""

import time
from collections.abc import Callable

from model.decoding import Decode
from model.engine import Engine
from model.errors import InvalidState
from model.params import GenerationParams
from model.progress import Progress as EngineProgress
from model.request import Request
from service.jobs.execution import Progress, Signal
from service.jobs.record import VideoRequest
from worker.held import HeldJob
from worker.media.previews import preview
from worker.shutdown import Shutdown

PERCENT_DECODED = 95
"""Encoding and upload are the rest."""

FINISHING_SECONDS = 1.5
"""Kept free for encoding and upload when a shutdown asks whether a job can still be completed."""


class Generation:
    """A held job with its state in the engine, which it has from admit() on."""

    def __init__(self, held: HeldJob, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.held = held
        self.params = params_of(held.claim.payload.request)
        self.claimed_at = clock()
        self.request: Request | None = None
        self.state: bytes | None = None
        """A saved one, to go on from; dropped when it is admitted."""

        self._clock = clock
        self._admitted_at = self._saved_at = self._shown_at = 0.0
        self._first_fraction = self._fraction = 0.0

    def admit(self, engine: Engine) -> None:
        """Raises InvalidParams, OutOfMemory, and InvalidState where a saved state is of no use here."""
        state, self.state = self.state, None
        self.request = engine.prepare(self.params) if state is None else self._resumed(engine, state)
        self._admitted_at = self._saved_at = self._shown_at = self._clock()
        self.held.prompt_tokens = engine.count_tokens(self.params.prompt)
        self.held.prompt_tokens_cut = max(0, self.held.prompt_tokens - engine.max_prompt_tokens)
        progress = EngineProgress.of(self.admitted)
        self._first_fraction = progress.fraction
        self.report(progress)

    def saved(self, engine: Engine) -> bytes:
        """The state between two steps."""
        self._saved_at = self._clock()
        return engine.save(self.admitted)

    @property
    def unsaved_seconds(self) -> float:
        """Since it was admitted or saved."""
        return self._clock() - self._saved_at

    def report_step(self) -> None:
        """After a step that went well."""
        self.report(EngineProgress.of(self.admitted))

    def show(self, engine: Engine) -> None:
        """What it is becoming."""
        self._shown_at = self._clock()
        self.held.preview = preview(engine.preview(self.admitted))

    @property
    def unshown_seconds(self) -> float:
        """Since it was admitted or shown."""
        return self._clock() - self._shown_at

    def decode(self, shutdown: Shutdown) -> Decode:
        """At native size; ends with Cancelled when it must end."""
        return Decode(self.admitted, on_progress=self.report, should_cancel=lambda: self.must_end(shutdown))

    def must_end(self, shutdown: Shutdown) -> bool:
        """Nobody wants the job (held.signal says why), or a shutdown leaves too little time for it."""
        if self.held.signal is not Signal.OK:
            return True
        return self._remaining_seconds() + FINISHING_SECONDS > shutdown.seconds_left

    @property
    def admitted(self) -> Request:
        """The request. Raises ValueError before admit()."""
        if self.request is None:
            raise ValueError(f"{self.held.id} has no request yet: admit() it.")
        return self.request

    @property
    def is_admitted(self) -> bool:
        """Not so between a saved state of no use and the next decision."""
        return self.request is not None

    @property
    def phase(self) -> str:
        """What is next: waiting (to be admitted), high_noise, low_noise, decode."""
        if self.request is None:
            return "waiting"
        return "decode" if self.request.is_denoised else self.request.expert

    @property
    def is_denoised(self) -> bool:
        return self.request is not None and self.request.is_denoised

    def report(self, progress: EngineProgress) -> None:
        self._fraction = progress.fraction
        self.held.advance(_wire(progress))

    def _resumed(self, engine: Engine, state: bytes) -> Request:
        request = engine.resume(state)
        if request.params != self.params:
            raise InvalidState(f"The saved state is not that of {self.held.id}. Start the job again.")
        return request

    def _remaining_seconds(self) -> float:
        """By the pace so far, in whatever company; with nothing done yet it can take any time."""
        elapsed, done = self._clock() - self._admitted_at, self._fraction - self._first_fraction
        return elapsed * (1 - self._fraction) / done if done > 0 else float("inf")


def params_of(request: VideoRequest) -> GenerationParams:
    return GenerationParams(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        width=request.width,
        height=request.height,
        num_frames=request.num_frames,
        fps=request.fps,
        num_inference_steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale,
        guidance_scale_2=request.guidance_scale_2,
        flow_shift=request.flow_shift,
        seed=request.seed,
    )


def _wire(progress: EngineProgress) -> Progress:
    is_denoised = progress.completed_steps == progress.num_inference_steps
    return Progress(
        stage="decode" if is_denoised else "denoise",
        step=progress.completed_steps,
        num_steps=progress.num_inference_steps,
        percent=int(progress.fraction * PERCENT_DECODED),
    )
