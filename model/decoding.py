"""From denoised requests to frames: several small videos as one tensor, each with its own progress and its own end."""

import contextlib
import logging
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from numpy.typing import NDArray

from model.frames import Frames, StageSeconds
from model.memory import decode_bytes
from model.progress import Progress, ignore_progress, never, stop_if
from model.request import Request
from model.shapes import CheckpointShape
from model.stepper import out_of_memory
from model.vae import decode_stack
from model.vae_layers import has_own_layers

log = logging.getLogger(__name__)

STACK_BYTES = 1 << 29
"""Of decodes that go together: more of them would save no more time, only memory."""


@dataclass(eq=False, slots=True)
class Decode:
    """What is to be decoded, once, and who wants to hear of it.

    on_progress: told after every chunk. should_cancel: asked before the first chunk and after each; True ends this
    decode with Cancelled.
    """

    request: Request
    on_progress: Callable[[Progress], None] = ignore_progress
    should_cancel: Callable[[], bool] = never
    frames: Future[Frames] = field(default_factory=Future, init=False)


def stacks_of(decodes: Sequence[Decode], *, shape: CheckpointShape, vae: AutoencoderKLWan) -> list[list[Decode]]:
    """Which decodes go together: those of one size, as many as STACK_BYTES hold, where that changes no bit.

    That is on a CPU, where small layers take as long to call as to compute. Elsewhere each goes by itself.
    """
    if not has_own_layers(vae):
        return [[decode] for decode in decodes]
    stacks: dict[tuple[torch.Size, int], list[Decode]] = {}
    num_before: dict[torch.Size, int] = {}
    for decode in decodes:
        size = decode.request.latents.shape
        most = max(1, STACK_BYTES // decode_bytes(shape, decode.request.params))
        stacks.setdefault((size, num_before.get(size, 0) // most), []).append(decode)
        num_before[size] = num_before.get(size, 0) + 1
    return list(stacks.values())


def decode_together(vae: AutoencoderKLWan, stack: Sequence[Decode]) -> None:
    """Puts an outcome into each one's `frames`: a video, Cancelled, OutOfMemory, or what its callbacks raised.

    The pixels are those of a decode alone, bit by bit. Where the stack fails each is decoded again by itself.
    """
    _decode(vae, [_Run(decode) for decode in stack])


def _decode(vae: AutoencoderKLWan, runs: Sequence["_Run"]) -> None:
    wanted = [run for run in runs if not run.has_ended]
    if not wanted:
        return
    try:
        for chunks in _chunks(vae, wanted):
            for run, chunk in zip(wanted, chunks, strict=True):
                run.take(chunk)
            if all(run.has_ended for run in wanted):
                return
    except Exception as e:  # noqa: BLE001  whoever asks for the result gets it
        error = _without_tensors(e)
    else:
        for run in wanted:
            run.finish()
        return
    if len(wanted) == 1:
        wanted[0].fail(error)
        return
    log.warning("%d videos could not be decoded together, each goes by itself: %s", len(wanted), error)
    for run in wanted:
        run.begin_again()
        _decode(vae, [run])


@torch.inference_mode()
def _chunks(vae: AutoencoderKLWan, runs: Sequence["_Run"]) -> Iterator[NDArray[np.uint8]]:
    yield from decode_stack(vae, torch.cat([run.decode.request.latents for run in runs]))


def _without_tensors(error: Exception) -> Exception:
    """Without what the functions in its traceback held: the failed decode's memory, which others need."""
    if isinstance(error, torch.OutOfMemoryError):
        # Where it happened says nothing, and clear_frames() leaves what closures hold.
        return error.with_traceback(None)
    traceback.clear_frames(error.__traceback__)
    return error if error.__traceback__ is None else error.with_traceback(error.__traceback__.tb_next)


class _Run:
    """A decode under way; it can end before its stack does."""

    def __init__(self, decode: Decode) -> None:
        self.decode = decode
        self._started = time.monotonic()
        self._chunks: list[NDArray[np.uint8]] = []
        self._frames_told = 0
        with self._failing():
            if not decode.request.is_denoised:
                raise ValueError(f"{decode.request.remaining_steps} denoising steps remain: step() first.")
            stop_if(decode.should_cancel, decode.request)

    @property
    def has_ended(self) -> bool:
        return self.decode.frames.done()

    def take(self, chunk: NDArray[np.uint8]) -> None:
        """chunk: f h w 3."""
        if not self.has_ended:
            self._chunks.append(chunk)
            self._tell()

    def _tell(self) -> None:
        decode, completed_frames = self.decode, sum(map(len, self._chunks))
        with self._failing():
            if completed_frames > self._frames_told:
                decode.on_progress(Progress.of(decode.request, completed_frames=completed_frames))
                self._frames_told = completed_frames
            stop_if(decode.should_cancel, decode.request)

    def begin_again(self) -> None:
        """From the first chunk. Progress is told from where it was on."""
        self._chunks.clear()

    def finish(self) -> None:
        if self.has_ended:
            return
        request = self.decode.request
        with self._failing():
            pixels = np.concatenate(self._chunks)
            seconds = StageSeconds(
                text=request.text_seconds,
                denoise=request.denoise_seconds,
                decode=time.monotonic() - self._started,
            )
            self.decode.frames.set_result(Frames(pixels=pixels, fps=request.params.fps, seconds=seconds))

    def fail(self, error: Exception) -> None:
        """Where its callbacks have not ended it before."""
        if self.has_ended:
            return
        request = self.decode.request
        if isinstance(error, torch.OutOfMemoryError):
            translated = out_of_memory(request.params, request.latents.device, error)
            translated.__cause__ = error
            error = translated
        self._end(error)

    def _end(self, error: Exception) -> None:
        self._chunks.clear()
        self.decode.frames.set_exception(error)

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """What its own callbacks raise ends it alone."""
        try:
            yield
        except Exception as e:  # noqa: BLE001  whoever asks for the result gets it
            self._end(e)
