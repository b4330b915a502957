"""The denoiser's training layers: diffusers' numbers and derivatives."""

import copy

import pytest
import torch
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from torch import Tensor, nn

from model.tiny import layers
from model.tiny.denoiser import CONFIG
from model.tiny.layers import NormAndRotation, TanhGelu, use_training_layers
from model.tiny.optimizer import _A, _B, _C, AT_A_TIME, _orthogonalise


class BiasedCrossAttention(WanAttnProcessor):
    """The stock one, told of the bias in the same way."""

    bias: Tensor | None = None

    def __call__(self, attn: nn.Module, hidden: Tensor, text: Tensor, mask: None, rotary: None) -> Tensor:
        return super().__call__(attn, hidden, text, self.bias, rotary)


def stock_transformer() -> WanTransformer3DModel:
    torch.manual_seed(0)
    transformer = WanTransformer3DModel(**CONFIG)
    with torch.no_grad():
        for name, parameter in transformer.named_parameters():
            if parameter.dim() == 1:
                parameter.normal_(1.0 if "norm" in name and "bias" not in name else 0.0, 0.3)
    for block in transformer.blocks:
        block.attn2.set_processor(BiasedCrossAttention())
    return transformer


def velocity(transformer: WanTransformer3DModel) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    for block in transformer.blocks:
        block.attn2.processor.bias = torch.linspace(-3, 3, 12)[None, None, None]
    out: Tensor = transformer(
        hidden_states=torch.randn(2, 16, 3, 6, 4, generator=generator),
        timestep=torch.tensor([200.0, 900.0]),
        encoder_hidden_states=torch.randn(2, 12, 128, generator=generator),
        return_dict=False,
    )[0]
    return out


def test_numbers_and_gradients_are_those_of_diffusers_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "IS_BF16_FAST", False)
    stock = stock_transformer()
    ours = copy.deepcopy(stock)
    use_training_layers(ours)

    for transformer in (stock, ours):
        velocity(transformer).square().mean().backward()

    torch.testing.assert_close(velocity(ours), velocity(stock), rtol=1e-4, atol=1e-5)
    for (name, mine), theirs in zip(ours.named_parameters(), stock.parameters(), strict=True):
        assert float((mine.grad - theirs.grad).norm()) < 1e-4 * float(theirs.grad.norm()) + 1e-9, name


def test_bf16_products_agree_to_their_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "IS_BF16_FAST", True)
    stock = stock_transformer()
    ours = copy.deepcopy(stock)
    use_training_layers(ours)

    with torch.no_grad():
        exact, rounded = velocity(stock), velocity(ours)

    assert 0 < float((rounded - exact).norm() / exact.norm()) < 0.02


@pytest.mark.parametrize("num_pairs", [0, 2])
def test_derivatives_of_norm_and_rotation(num_pairs: int) -> None:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(2, 3, 8, generator=generator, dtype=torch.float64).requires_grad_()
    weight = torch.randn(8, generator=generator, dtype=torch.float64).requires_grad_()
    angles = torch.randn(1, 3, 1, num_pairs, generator=generator, dtype=torch.float64)
    rotary = torch.polar(torch.ones_like(angles), angles) if num_pairs else None
    assert torch.autograd.gradcheck(lambda a, b: NormAndRotation.apply(a, b, 1e-3, rotary), (x, weight))


def test_derivative_of_gelu() -> None:
    x = torch.linspace(-6, 6, 25, dtype=torch.float64).requires_grad_()
    torch.testing.assert_close(TanhGelu.apply(x), nn.functional.gelu(x, approximate="tanh"))
    assert torch.autograd.gradcheck(TanhGelu.apply, (x,))


@pytest.mark.parametrize("shape", [(2 * AT_A_TIME + 1, 6, 6), (3, 10, 4), (1, 4, 10)])
def test_matrices_are_orthogonalised_as_the_formula_says(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.tiny.optimizer.PRODUCT_DTYPE", torch.float64)
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    for found, matrix in zip(_orthogonalise(matrices), matrices, strict=True):
        x = matrix / (matrix.norm() + 1e-8)
        for _ in range(5):
            # Of a tall matrix the formula gives the same either way.
            gram = x @ x.T
            x = _A * x + (_B * gram + _C * gram @ gram) @ x
        torch.testing.assert_close(found.double(), x, rtol=1e-4, atol=1e-5)
