"""Linear layers and their activation in float32 on a CPU: the stock numbers but for rounding, by what is fastest there.

With AVX-512 oneDNN takes both at once and uses a processor's full width, where MKL may use half of it. Without it MKL
multiplies as fast, and what counts is the activation: PyTorch's tanh takes longer than the matrix product before it.
`python -m bench.engine linear` measures it. Weights, their names and the modules' places stay.
"""

import functools
import math

import torch
from diffusers.models.activations import GELU
from torch import nn
from torch.nn import functional as F

IS_MKL_AS_FAST: bool = torch.backends.mkl.is_available() and torch.backends.cpu.get_cpu_capability() != "AVX512"
"""A fixed rule, no trial: equal processors must give equal bits."""


def is_by_onednn() -> bool:
    return not IS_MKL_AS_FAST and torch.backends.mkldnn.is_available()


def use_own_linear_layers(module: nn.Module) -> None:
    """For float32 on a CPU."""
    for part in module.modules():
        match part:
            case nn.Linear() if is_by_onednn():
                part.__class__ = Linear
            case GELU(approximate="tanh"):
                part.__class__ = FastGelu


class Linear(nn.Linear):
    """By oneDNN."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002  the stock one's name
        return linear(input, self.weight, self.bias)


class FastGelu(GELU):
    """A feed-forward's first half."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        weight, bias = self.proj.weight, self.proj.bias
        if not is_by_onednn():
            return _gelu_(F.linear(hidden_states, weight, bias))
        return torch.ops.mkldnn._linear_pointwise(hidden_states, weight, bias, "gelu", [], "tanh")


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """As F.linear(), but for rounding."""
    if not is_by_onednn():
        return F.linear(x, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


GELU_SLOPE = 2 * math.sqrt(2 / math.pi)
GELU_CUBIC = GELU_SLOPE * 0.044715
"""GELU in its tanh form is x sigmoid(slope x + cubic x³)."""


def _gelu_(x: torch.Tensor) -> torch.Tensor:
    """GELU in its tanh form, in place: x * sigmoid(2 y) is x / 2 * (1 + tanh(y)), and exp takes a fourth of tanh."""
    slope = torch.addcmul(constant(GELU_SLOPE), x, x, value=GELU_CUBIC)
    return x.mul_(slope.mul_(x).sigmoid_())


@functools.cache
def constant(value: float) -> torch.Tensor:
    """A number as the operand of an operation that takes only tensors; float32, on the CPU."""
    # Made in inference mode it could not be used outside of it.
    with torch.inference_mode(False):
        return torch.tensor(value, dtype=torch.float32)
