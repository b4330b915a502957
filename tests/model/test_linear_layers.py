"""Linear layers of a CPU's own: the stock numbers, the stock weights, whichever library multiplies."""

from collections.abc import Iterator

import pytest
import torch
from diffusers.models.activations import GELU
from torch import nn

from model import linear_layers
from model.engine import Engine
from model.linear_layers import FastGelu, Linear, use_own_linear_layers


@pytest.fixture(params=["onednn", "mkl"])
def library(request, monkeypatch) -> Iterator[str]:
    """What the processor would be given."""
    if request.param == "onednn" and not torch.backends.mkldnn.is_available():
        pytest.skip("PyTorch without oneDNN")
    monkeypatch.setattr(linear_layers, "IS_MKL_AS_FAST", request.param == "mkl")
    return request.param


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("shape", [(24,), (1, 24), (3, 80, 24)])
def test_numbers_are_the_stock_layers(shape, has_bias, library):
    torch.manual_seed(0)
    layer, tokens = nn.Linear(24, 40, bias=has_bias), torch.randn(shape)
    with torch.inference_mode():
        expected = layer(tokens)
        use_own_linear_layers(layer)
        torch.testing.assert_close(layer(tokens), expected)
    assert type(layer) is (Linear if library == "onednn" else nn.Linear)


@pytest.mark.parametrize("approximate", ["tanh", "none"])
def test_activation_is_the_one_that_was_asked_for(approximate, library):
    torch.manual_seed(0)
    half, tokens = nn.Sequential(GELU(24, 40, approximate=approximate)), 10 * torch.randn(3, 80, 24)
    with torch.inference_mode():
        expected = half(tokens)
        use_own_linear_layers(half)
        torch.testing.assert_close(half(tokens), expected)


def test_tokens_need_not_lie_side_by_side(library):
    torch.manual_seed(0)
    layer, tokens = nn.Linear(24, 40), torch.randn(80, 3, 24).transpose(0, 1)
    with torch.inference_mode():
        expected = layer(tokens)
        use_own_linear_layers(layer)
        torch.testing.assert_close(layer(tokens), expected)


@pytest.mark.parametrize(("dtype", "are_own"), [("float32", True), ("bfloat16", False)])
def test_only_float32_on_a_cpu_gets_them(dtype, are_own, library):
    parts = Engine.from_pretrained("embedded", device="cpu", dtype=dtype)._parts
    for transformer in (parts.experts.high_noise, parts.experts.low_noise):
        activations = [part for part in transformer.modules() if isinstance(part, GELU)]
        assert activations
        assert {type(part) is FastGelu for part in activations} == {are_own}
    layers = [part for part in parts.text_encoder.modules() if isinstance(part, nn.Linear)]
    assert layers
    assert {type(layer) is Linear for layer in layers} == {are_own and library == "onednn"}
