"""The keys and values of several requests side by side, kept while the same requests stay together."""

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch.nn import functional as F

from model.request import ExpertText
from model.text import TextKeysValues

MAX_STACKS = 4


class TextStacks:
    """A small cache. Requests come and go every few steps; in between the stack is the same step after step."""

    def __init__(self, *, max_stacks: int = MAX_STACKS) -> None:
        self._max_stacks = max_stacks
        # The texts are kept beside the stack: an id() is theirs only while they live.
        self._stacks: OrderedDict[tuple[int, ...], tuple[tuple[ExpertText, ...], list[TextKeysValues]]] = OrderedDict()

    def stack(self, texts: Sequence[ExpertText]) -> list[TextKeysValues]:
        """One entry a block, all rows of all texts in order."""
        if len(texts) == 1:
            return texts[0].blocks
        key = tuple(map(id, texts))
        if key in self._stacks:
            self._stacks.move_to_end(key)
            return self._stacks[key][1]
        blocks = [_join(entries) for entries in zip(*(text.blocks for text in texts), strict=True)]
        self._stacks[key] = (tuple(texts), blocks)
        if len(self._stacks) > self._max_stacks:
            self._stacks.popitem(last=False)
        return blocks


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
