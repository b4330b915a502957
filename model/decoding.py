"""From denoised requests to frames: several small videos as one tensor, each with its own progress and its own end."""

import contextlib
import time
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


def stacks_of(decodes: Sequence[Decode], *, shape: CheckpointShape, device: torch.device) -> list[list[Decode]]:
    """Which decodes go together: on a CPU those of one size, as many as STACK_BYTES hold; elsewhere each by itself.

    A small video's layers are too small for two threads, and calling them takes as long as what they compute.
    """
    if device.type != "cpu":
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
    wanted = [run for run in map(_Run, stack) if not run.has_ended]
    if not wanted:
        return
    try:
        for chunks in decode_stack(vae, torch.cat([run.decode.request.latents for run in wanted])):
            for run, chunk in zip(wanted, chunks, strict=True):
                run.take(chunk)
            if all(run.has_ended for run in wanted):
                return
    except Exception as e:  # noqa: BLE001  whoever asks for the result gets it
        error = e
    else:
        for run in wanted:
            run.finish()
        return
    # Out of the except block: its traceback would keep the failed stack's tensors alive.
    for run in wanted:
        if len(wanted) == 1:
            run.fail(error)
        elif not run.has_ended:
            decode_together(vae, [run.decode])


class _Run:
    """A decode under way; it can end before its stack does."""

    def __init__(self, decode: Decode) -> None:
        self.decode = decode
        self._started = time.monotonic()
        self._chunks: list[NDArray[np.uint8]] = []
        with self._failing():
            if not decode.request.is_denoised:
                raise ValueError(f"{decode.request.remaining_steps} denoising steps remain: step() first.")
            stop_if(decode.should_cancel, decode.request)

    @property
    def has_ended(self) -> bool:
        return self.decode.frames.done()

    def take(self, chunk: NDArray[np.uint8]) -> None:
        """chunk: f h w 3."""
        if self.has_ended:
            return
        self._chunks.append(chunk)
        decode = self.decode
        with self._failing():
            decode.on_progress(Progress.of(decode.request, completed_frames=sum(map(len, self._chunks))))
            stop_if(decode.should_cancel, decode.request)

    def finish(self) -> None:
        if self.has_ended:
            return
        request = self.decode.request
        seconds = StageSeconds(
            text=request.text_seconds,
            denoise=request.denoise_seconds,
            decode=time.monotonic() - self._started,
        )
        pixels = np.concatenate(self._chunks)
        self.decode.frames.set_result(Frames(pixels=pixels, fps=request.params.fps, seconds=seconds))

    def fail(self, error: Exception) -> None:
        request = self.decode.request
        if isinstance(error, torch.OutOfMemoryError):
            error = out_of_memory(request.params, request.latents.device, error)
        self.decode.frames.set_exception(error)

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """What its own callbacks raise ends it alone."""
        try:
            yield
        except Exception as e:  # noqa: BLE001  whoever asks for the result gets it
            self.decode.frames.set_exception(e)
