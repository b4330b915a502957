"""One denoising step of any set of requests: who shares a forward, on which expert, and what to do without memory."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from diffusers import WanTransformer3DModel

from model.batch import batches_of, commit, gather, solve
from model.denoise import predict_velocities
from model.errors import EngineError, NotFinite, OutOfMemory
from model.experts import ExpertName
from model.loader import Parts
from model.params import GenerationParams
from model.request import ExpertText, Request
from model.text import text_keys_values
from model.text_stack import TextStacks


@dataclass(frozen=True, slots=True)
class BatchDone:
    """Requests of one shape and expert that took a step together."""

    expert: ExpertName
    num_rows: int
    """Of the forward: two for a request with guidance."""

    params: GenerationParams
    """Of one of them: width, height and num_frames are the same for all."""

    seconds: float
    """In all."""

    swap_seconds: float
    """Of these, waited for the expert's weights."""


class Stepper:
    """Keeps stacked text between steps, and no request. on_batch: told of every batch that was stepped."""

    def __init__(self, parts: Parts, *, max_text_tokens: int, batch_invariant: bool) -> None:
        self.on_batch: Callable[[BatchDone], None] = _ignore_batch
        self._parts = parts
        self._max_text_tokens = max_text_tokens
        self._batch_invariant = batch_invariant
        self._text_stacks = TextStacks()

    def step(self, requests: Sequence[Request]) -> dict[Request, EngineError]:
        """As Engine.step()."""
        if len(set(requests)) < len(requests) or any(request.is_denoised for request in requests):
            raise ValueError("Every request can be given once, and only while it has steps left: see is_denoised.")
        failed: dict[Request, EngineError] = {}
        # What the device holds goes first; a switch, if there must be one, comes once a step.
        batches = sorted(batches_of(requests), key=lambda batch: batch[0].expert != self._parts.residency.resident)
        for index, batch in enumerate(batches):
            expert, num_rows = batch[0].expert, sum(len(request.rows) for request in batch)
            started, swapped = time.monotonic(), self._parts.residency.stats.swap_seconds
            failed |= self._step_batch(batch, followed_by=_next_expert(batches[index:]))
            synchronize(self._parts.device)
            seconds = time.monotonic() - started
            for request in batch:
                if request not in failed:
                    request.denoise_seconds += seconds
            swap_seconds = self._parts.residency.stats.swap_seconds - swapped
            self.on_batch(BatchDone(expert, num_rows, batch[0].params, seconds, swap_seconds))
        return failed

    def _step_batch(self, batch: list[Request], *, followed_by: ExpertName) -> dict[Request, EngineError]:
        try:
            return self._forward(batch, followed_by)
        except torch.OutOfMemoryError as e:
            if len(batch) == 1:
                return {batch[0]: out_of_memory(batch[0].params, self._parts.device, e)}
        # Out of the except block: its traceback would keep the failed forward's tensors alive.
        self._text_stacks.clear()
        half = len(batch) // 2
        first = self._step_batch(batch[:half], followed_by=batch[0].expert)
        return first | self._step_batch(batch[half:], followed_by=followed_by)

    def _forward(self, batch: list[Request], followed_by: ExpertName) -> dict[Request, EngineError]:
        parts = [[request] for request in batch] if self._batch_invariant else [batch]
        with self._parts.residency.forward(batch[0].expert, followed_by=followed_by) as transformer:
            texts = [[self._expert_text(request, transformer) for request in part] for part in parts]
            stacks = [gather(part, self._text_stacks.stack(text)) for part, text in zip(parts, texts, strict=True)]
            velocities = predict_velocities(transformer, stacks)
        # All is computed before anything changes: whoever runs out of memory here leaves every request as it was.
        advances = [solve(*each) for each in zip(parts, stacks, velocities, strict=True)]
        failed = [commit(part, advance) for part, advance in zip(parts, advances, strict=True)]
        return {request: self._not_finite(request) for each in failed for request in each}

    def _not_finite(self, request: Request) -> NotFinite:
        advice = "The checkpoint's weights are damaged: download it again."
        if self._parts.dtype == torch.float16:
            advice = "float16 overflowed: load the checkpoint with dtype bfloat16."
        return NotFinite(
            f"The latents are not finite after step {request.step + 1} of {request.schedule.num_steps} "
            f"({request.expert} expert, {str(self._parts.dtype).removeprefix('torch.')}). {advice}"
        )

    def _expert_text(self, request: Request, transformer: WanTransformer3DModel) -> ExpertText:
        """The text for the expert of the next step, which transformer is; made anew only when the expert changes."""
        if request.text is None or request.text.expert != request.expert:
            blocks = text_keys_values(transformer, request.rows, max_tokens=self._max_text_tokens)
            request.text = ExpertText(expert=request.expert, blocks=blocks)
        return request.text


def synchronize(device: torch.device) -> None:
    """Waits for the device: kernels are queued, and progress would run ahead of the work, cancelling behind it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def out_of_memory(params: GenerationParams, device: torch.device, error: torch.OutOfMemoryError) -> OutOfMemory:
    return OutOfMemory(
        f"{params.num_frames} frames of {params.width}x{params.height} do not fit into the memory of "
        f"{device}: ask for fewer frames or a smaller size. {error}"
    )


def _next_expert(batches: Sequence[Sequence[Request]]) -> ExpertName:
    """Which expert the forward after that of the first batch will want."""
    if len(batches) > 1:
        return batches[1][0].expert
    [batch] = batches
    wanted = {request.expert_of(request.step + 1) for request in batch if request.remaining_steps > 1}
    # Requests that are still to come begin at high noise.
    return batch[0].expert if batch[0].expert in wanted else next(iter(wanted), "high_noise")


def _ignore_batch(batch: BatchDone) -> None:
    pass
