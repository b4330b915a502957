"""All blocks' text keys and values in one product: the numbers of two products a block, and moved with an expert."""

import pytest
import torch

from model import text_projection
from model.folder import open_folder
from model.loader import Parts, load_parts
from model.text import TextKeysValues, text_keys_values
from model.text_projection import TextProjection

MAX_TOKENS = 64


@pytest.fixture
def parts() -> Parts:
    return load_parts(open_folder("embedded"), device="cpu", dtype="float32")


def rows(*lengths: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(length, 128, generator=generator) for length in lengths]


@torch.inference_mode()
def keys_values(transformer: torch.nn.Module, texts: list[torch.Tensor]) -> list[TextKeysValues]:
    return text_keys_values(transformer, texts, max_tokens=MAX_TOKENS)


@pytest.mark.parametrize("lengths", [(8,), (8, 1), (40, 3, 64)])
def test_numbers_are_those_of_two_products_a_block(parts: Parts, lengths: tuple[int, ...]) -> None:
    transformer, texts = parts.experts.low_noise, rows(*lengths)
    joint = keys_values(transformer, texts)
    del transformer.text_projection
    separate = keys_values(transformer, texts)

    assert len(joint) == len(separate) == len(transformer.blocks)
    for ours, theirs in zip(joint, separate, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert one.is_contiguous()
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_weights_keep_their_names_and_values_and_share_their_memory(parts: Parts) -> None:
    transformer = parts.experts.high_noise
    before = {name: tensor.clone() for name, tensor in transformer.state_dict().items()}
    joint = TextProjection(transformer)

    after = transformer.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    with torch.no_grad():
        transformer.blocks[-1].attn2.to_v.bias.fill_(7)
    assert joint._bias[-transformer.blocks[-1].attn2.to_v.bias.numel() :].eq(7).all()


@pytest.mark.parametrize("residency", ["swap", "rolling"])
def test_an_expert_that_moves_in_is_seen(parts: Parts, residency: str) -> None:
    moving = load_parts(open_folder("embedded"), device="cpu", dtype="float32", residency=residency).residency
    for expert in ("high_noise", "low_noise", "high_noise"):
        with moving.forward(expert) as transformer:
            found = keys_values(transformer, rows(8, 1))
        for ours, theirs in zip(found, keys_values(parts.experts[expert], rows(8, 1)), strict=True):
            assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_large_weights_stay_where_they_are(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    transformer = parts.experts.high_noise
    del transformer.text_projection
    monkeypatch.setattr(text_projection, "JOINT_BYTES", 1000)
    text_projection.join_text_projections(transformer)
    assert not hasattr(transformer, "text_projection")


def test_only_float32_on_a_cpu_is_joined() -> None:
    half = load_parts(open_folder("embedded"), device="cpu", dtype="bfloat16")
    assert not any(hasattr(transformer, "text_projection") for transformer in half.runnable)
