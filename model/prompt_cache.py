"""Embeddings of prompts seen before: the negative prompt, above all, is encoded once."""

from collections import OrderedDict
from collections.abc import Callable

import torch

MAX_BYTES = 256 * 2**20
"""64 prompts of full length at A14B's width, thousands of usual ones."""


class PromptCache:
    """Forgets the least recently used prompts once their embeddings exceed max_bytes."""

    def __init__(self, *, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._embeds: OrderedDict[str, torch.Tensor] = OrderedDict()
        self._num_bytes = 0

    @property
    def num_bytes(self) -> int:
        return self._num_bytes

    def get(self, prompt: str, encode: Callable[[str], torch.Tensor]) -> torch.Tensor:
        """The embeddings of a prompt, n d; encode() is called where they are not kept."""
        if (embeds := self._embeds.get(prompt)) is not None:
            self._embeds.move_to_end(prompt)
            return embeds
        embeds = encode(prompt)
        self._embeds[prompt] = embeds
        self._num_bytes += embeds.nbytes
        while self._num_bytes > self._max_bytes:
            _, forgotten = self._embeds.popitem(last=False)
            self._num_bytes -= forgotten.nbytes
        return embeds
