"""A training step on a processor without bfloat16 products makes none: there each takes some seventy times as long."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from model.tiny import optimizer, precision
from model.tiny.autoencoder import new_autoencoder
from model.tiny.optimizer import MuonWithAdamW
from model.tiny.train_vae import _losses


class Dtypes(TorchDispatchMode):
    """The dtypes of all tensors that are made under it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[torch.dtype] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, torch.Tensor):
                self.seen.add(tensor.dtype)
        return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_autoencoders_step_is_narrow_only_where_that_is_fast(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "IS_BF16_FAST", dtype == torch.bfloat16)
    clips = torch.rand(1, 3, 1, 16, 16).contiguous(memory_format=torch.channels_last_3d)

    with Dtypes() as dtypes:
        loss, _ = _losses(new_autoencoder(), clips)
        loss.backward()

    assert (torch.bfloat16 in dtypes.seen) == (dtype == torch.bfloat16)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_optimizers_step_is_narrow_only_where_that_is_fast(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimizer, "PRODUCT_DTYPE", dtype)
    module = torch.nn.Linear(8, 8)
    updates = MuonWithAdamW(module, muon_rate=0.02, adam_rate=1e-3, is_hidden=lambda _: True)
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)

    with Dtypes() as dtypes:
        updates.step(1.0)

    assert (torch.bfloat16 in dtypes.seen) == (dtype == torch.bfloat16)
