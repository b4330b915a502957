"""Matrix products in float32 on a CPU: by oneDNN, which uses a processor's full width where MKL may use half of it.

`python -m bench.engine linear` measures it. Weights, their names and the modules' places stay.
"""

import torch
from diffusers.models.activations import GELU
from torch import nn


def use_own_linear_layers(module: nn.Module) -> None:
    """For float32 on a CPU. Does nothing where PyTorch was built without oneDNN."""
    if not torch.backends.mkldnn.is_available():
        return
    for part in module.modules():
        match part:
            case nn.Linear():
                part.__class__ = Linear
            case GELU(approximate="tanh"):
                part.__class__ = FusedGelu


class Linear(nn.Linear):
    """As the stock one, but for rounding."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002  the stock one's name
        return torch.ops.mkldnn._linear_pointwise(input, self.weight, self.bias, "none", [], "")


class FusedGelu(GELU):
    """A feed-forward's first half. Apart, the activation takes as long as the matrix product itself."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        proj = self.proj
        return torch.ops.mkldnn._linear_pointwise(hidden_states, proj.weight, proj.bias, "gelu", [], "tanh")
