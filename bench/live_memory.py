"""How many bytes of tensors live at once while a piece of code runs, on any device, meta included."""

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class LiveMemory(TorchDispatchMode):
    """with LiveMemory() as live: … ; live.peak_bytes

    Counts the storages that operators made inside the block until they are freed. What was there before counts
    nothing, nor does scratch memory inside one kernel.
    """

    def __init__(self) -> None:
        super().__init__()
        self.current_bytes = 0
        self.peak_bytes = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        arguments = kwargs or {}
        # A view of an older tensor shares its storage, which must not look like a new one.
        self._watch((args, arguments), is_new=False)
        result = func(*args, **arguments)
        self._watch(result, is_new=True)
        return result

    def _watch(self, tensors: Any, *, is_new: bool) -> None:
        for tensor in tree_iter(tensors):
            if not isinstance(tensor, torch.Tensor):
                continue
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self._sizes:
                self._sizes[key] = storage.nbytes() if is_new else 0
                self.current_bytes += self._sizes[key]
                weakref.finalize(storage, self._forget, key)
        self.peak_bytes = max(self.peak_bytes, self.current_bytes)

    def _forget(self, key: int) -> None:
        self.current_bytes -= self._sizes.pop(key)
