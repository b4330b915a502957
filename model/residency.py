"""Which expert's weights lie on the device, and how the other's come there. Knows no request and no schedule.

    with residency.forward("high_noise", followed_by="low_noise") as transformer:
        velocities = predict_velocities(transformer, stacks)

Three ways, the same numbers bit by bit:

    both      both experts stay on the device
    swap      one does; a switch copies the other's weights from host memory, one way, and the forward waits for it
    rolling   one does; while the last forward before a switch runs, each block is overwritten with the other
              expert's as soon as it has had its turn, so that the switch costs neither time nor a second copy
"""

import contextlib
import copy
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from diffusers import WanTransformer3DModel

from model.errors import OutOfMemory
from model.experts import ExpertName, Experts
from model.memory import ResidencyName


@dataclass(slots=True)
class ResidencyStats:
    """Since the start."""

    num_swaps: int = 0
    """Switches that a forward waited for."""

    swap_seconds: float = 0.0
    """How long in all."""

    num_handovers: int = 0
    """Switches that went on behind a forward."""


class Residency(Protocol):
    """The only way to a transformer that can be run. Not for use by several threads at once."""

    @property
    def name(self) -> ResidencyName: ...

    @property
    def resident(self) -> ExpertName | None:
        """The only expert on the device, the one to prefer; None where both are."""

    @property
    def on_device(self) -> WanTransformer3DModel:
        """A transformer on the device, for what is the same in both experts: config, dtype, rotary tables."""

    @property
    def stats(self) -> ResidencyStats: ...

    def forward(
        self, expert: ExpertName, *, followed_by: ExpertName | None = None
    ) -> AbstractContextManager[WanTransformer3DModel]:
        """The expert, good until the block ends.

        Text keys and values are an expert's own: make them inside the block too, before the forward, when a
        request first meets this expert, and keep them with the request.

        followed_by: the expert that the next forward will want; with another than this one the block must run a
        single predict_velocities(). It is a hint: a wrong one costs a swap, never a wrong number. A block left by
        an exception, out of memory say, leaves the expert as it was.
        """


def make_residency(name: ResidencyName, experts: Experts, *, device: torch.device) -> Residency:
    """Takes over the experts, loaded into host memory. Raises OutOfMemory where that can't be pinned."""
    match name:
        case "both":
            return BothResident(experts, device=device)
        case "swap":
            return SwappedResidency(experts, device=device)
        case "rolling":
            return RollingResidency(experts, device=device)


class BothResident:
    """Nothing ever moves."""

    name: ResidencyName = "both"
    resident: ExpertName | None = None

    def __init__(self, experts: Experts, *, device: torch.device) -> None:
        self.stats = ResidencyStats()
        self._experts = Experts(experts.high_noise.to(device), experts.low_noise.to(device))

    @property
    def on_device(self) -> WanTransformer3DModel:
        return self._experts.high_noise

    @contextlib.contextmanager
    def forward(self, expert: ExpertName, *, followed_by: ExpertName | None = None) -> Iterator[WanTransformer3DModel]:
        yield self._experts[expert]


class SwappedResidency:
    """One transformer on the device whose weights are overwritten in place: their addresses never change."""

    name: ResidencyName = "swap"

    def __init__(self, experts: Experts, *, device: torch.device) -> None:
        if device.type == "cuda":
            _pin(experts)
        self.stats = ResidencyStats()
        self._lane = _Lane(device)
        self._transformer = _empty_twin(experts.high_noise, device)
        self._sections = {
            "high_noise": _sections(self._transformer, experts.high_noise),
            "low_noise": _sections(self._transformer, experts.low_noise),
        }
        self._resident: ExpertName | None = None
        self._load("high_noise")

    @property
    def resident(self) -> ExpertName | None:
        return self._resident

    @property
    def on_device(self) -> WanTransformer3DModel:
        return self._transformer

    @contextlib.contextmanager
    def forward(self, expert: ExpertName, *, followed_by: ExpertName | None = None) -> Iterator[WanTransformer3DModel]:
        if self._resident != expert:
            started = time.monotonic()
            self._load(expert)
            self.stats.num_swaps += 1
            self.stats.swap_seconds += time.monotonic() - started
        yield self._transformer

    def _load(self, expert: ExpertName) -> None:
        # Until all is copied it is neither of them.
        self._resident = None
        for section in self._sections[expert]:
            self._lane.copy(section)
        self._lane.wait()
        self._resident = expert


class RollingResidency(SwappedResidency):
    """The same, but a switch that was announced goes on behind the forward before it.

    A block compiled by torch.compile gives no notice of its turn: its weights follow after the forward.
    """

    name: ResidencyName = "rolling"

    @contextlib.contextmanager
    def forward(self, expert: ExpertName, *, followed_by: ExpertName | None = None) -> Iterator[WanTransformer3DModel]:
        with super().forward(expert) as transformer:
            if followed_by is None or followed_by == expert:
                yield transformer
                return
            with self._handing_over(expert, followed_by):
                yield transformer

    @contextlib.contextmanager
    def _handing_over(self, expert: ExpertName, other: ExpertName) -> Iterator[None]:
        self._resident = None
        handover = _Handover(self._lane, self._sections[other])
        try:
            with handover.following(self._transformer):
                yield
        except BaseException:
            handover.undo(self._sections[expert])
            self._resident = expert
            raise
        handover.finish()
        self._resident = other
        self.stats.num_handovers += 1


Section = list[tuple[torch.Tensor, torch.Tensor]]
"""Weights that are overwritten together: each on the device, and what it becomes, in host memory."""


class _Handover:
    """One forward during which the blocks change hands, each when the next one starts."""

    def __init__(self, lane: "_Lane", sections: list[Section]) -> None:
        self._lane = lane
        self._sections = sections
        self._num_done = 0

    @contextlib.contextmanager
    def following(self, transformer: WanTransformer3DModel) -> Iterator[None]:
        """Watches the forward from block to block."""
        # What comes before the blocks must not run again once the first has changed.
        entries = [transformer.patch_embedding, transformer.condition_embedder.text_embedder]
        stops = [*((module, 0) for module in entries), *((block, i) for i, block in enumerate(transformer.blocks))]
        hooks = [
            module.register_forward_pre_hook(partial(self._reach, index))
            for module, index in stops
            # A compiled block would take the hook into its graph and run it ever after.
            if module._compiled_call_impl is None
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _reach(self, index: int, *_call: object) -> None:
        """Block index starts, for the first of the stacks or another one: those before it have done their part."""
        if index < self._num_done:
            raise RuntimeError(
                f"Block {index} already holds the other expert's weights: run one forward inside "
                "forward(…, followed_by=…), after making text keys and values."
            )
        self._copy_up_to(index)

    def _copy_up_to(self, end: int) -> None:
        for index in range(self._num_done, end):
            # Counted first: a copy that fails half-way must be undone too.
            self._num_done = index + 1
            self._lane.copy(self._sections[index])

    def finish(self) -> None:
        """The rest: the last block, what lies outside the blocks, and all if nothing was run."""
        self._copy_up_to(len(self._sections))
        self._lane.join()

    def undo(self, sections: list[Section]) -> None:
        """Copies the first expert's weights back to where they were."""
        for section in sections[: self._num_done]:
            self._lane.copy(section)
        self._lane.join()


class _Lane:
    """Carries weights to the device: on CUDA beside the kernels, on a stream of its own; elsewhere at once."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def copy(self, section: Section) -> None:
        """Overwrites the weights as soon as all that was asked of the device before is done with them."""
        if self._stream is None:
            for target, source in section:
                target.copy_(source)
            return
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            for target, source in section:
                target.copy_(source, non_blocking=True)

    def join(self) -> None:
        """All that is asked of the device from now on finds the weights copied."""
        if self._stream is not None:
            torch.cuda.current_stream(self._device).wait_stream(self._stream)

    def wait(self) -> None:
        """Returns when they are copied."""
        if self._stream is not None:
            self._stream.synchronize()


def _sections(target: WanTransformer3DModel, source: WanTransformer3DModel) -> list[Section]:
    """One a block, in order of their turn, then what lies outside the blocks."""
    targets, sources = dict(target.named_parameters()), dict(source.named_parameters())
    sections: list[Section] = [[] for _ in range(len(target.blocks) + 1)]
    for name, parameter in targets.items():
        match name.split("."):
            case ["blocks", index, *_]:
                sections[int(index)].append((parameter, sources[name]))
            case _:
                sections[-1].append((parameter, sources[name]))
    return sections


def _empty_twin(transformer: WanTransformer3DModel, device: torch.device) -> WanTransformer3DModel:
    """The same module with weights of its own on the device, not yet filled."""
    # deepcopy takes for done what stands in its memo: no second copy arises in host memory.
    memo: dict[int, torch.Tensor] = {
        id(parameter): torch.nn.Parameter(torch.empty_like(parameter, device=device), requires_grad=False)
        for parameter in transformer.parameters()
    }
    memo |= {id(buffer): buffer.to(device, copy=True) for buffer in transformer.buffers()}
    return copy.deepcopy(transformer, memo)


def _pin(experts: Experts) -> None:
    """Page-locks the weights: only then do copies to a GPU go at full speed and beside its kernels."""
    try:
        for transformer in (experts.high_noise, experts.low_noise):
            for parameter in transformer.parameters():
                parameter.data = parameter.data.pin_memory()
    except RuntimeError as e:
        raise OutOfMemory(
            "Host memory can't take both experts page-locked, which a GPU too small for both needs: give the machine "
            f"(or its container) more memory, or take a larger GPU. `wanserve plan` says how much. Cause: {e}"
        ) from e
