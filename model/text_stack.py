"""The keys and values of several requests side by side, kept while the same requests stay together."""

import math
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch.nn import functional as F

from model.request import ExpertText
from model.text import TextKeysValues

MAX_STACKS = 2
"""One for each expert, where both have requests."""


class TextStacks:
    """A small cache. Requests come and go every few steps; in between the stack is the same step after step.

    A stack goes with the first of its texts that nobody needs any more.
    """

    def __init__(self, *, max_stacks: int = MAX_STACKS) -> None:
        self._max_stacks = max_stacks
        self._stacks: OrderedDict[tuple[int, ...], _TextStack] = OrderedDict()

    def __len__(self) -> int:
        return len(self._stacks)

    def stack(self, texts: Sequence[ExpertText]) -> list[TextKeysValues]:
        """One entry a block, all rows of all texts in order."""
        if len(texts) == 1:
            return texts[0].blocks
        key = tuple(map(id, texts))
        if (kept := self._stacks.get(key)) is not None:
            self._stacks.move_to_end(key)
            return kept.blocks
        while len(self._stacks) >= self._max_stacks:
            self._stacks.popitem(last=False)
        blocks = [_join(entries) for entries in zip(*(text.blocks for text in texts), strict=True)]
        self._stacks[key] = _TextStack(blocks, [weakref.ref(text, partial(self._forget, key)) for text in texts])
        return blocks

    def clear(self) -> None:
        self._stacks.clear()

    def _forget(self, key: tuple[int, ...], _gone: object) -> None:
        # An id() may soon be another text's.
        self._stacks.pop(key, None)


@dataclass(frozen=True, slots=True)
class _TextStack:
    blocks: list[TextKeysValues]
    owners: list[weakref.ref[ExpertText]]


def _join(entries: Sequence[TextKeysValues]) -> TextKeysValues:
    """Fills shorter texts up with keys that weigh nothing."""
    length = max(entry.key.shape[2] for entry in entries)
    filled = [_fill(entry, length - entry.key.shape[2]) for entry in entries]
    return TextKeysValues(*(torch.cat(tensors) for tensors in zip(*filled, strict=True)))


def _fill(entry: TextKeysValues, count: int) -> TextKeysValues:
    if count == 0:
        return entry
    return TextKeysValues(
        key=F.pad(entry.key, (0, 0, 0, count)),
        value=F.pad(entry.value, (0, 0, 0, count)),
        bias=F.pad(entry.bias, (0, count), value=-math.inf),
    )
