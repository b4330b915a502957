"""Query, key and value in one product: the numbers and weights of three, and still there when an expert moves."""

import pytest
import torch

from model.attention import JointSelfAttention, SelfAttention, join_self_attentions
from model.engine import Engine
from model.folder import open_folder
from model.loader import load_parts
from tests.model.oracle import our_latents


def _weights(transformer: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in transformer.state_dict().items()}


def test_weights_keep_their_names_and_values_and_share_their_memory() -> None:
    parts = load_parts(open_folder("embedded"), device="cpu", dtype="float32")
    block = parts.experts.high_noise.blocks[0]
    before = _weights(block)
    join_self_attentions(parts.experts.high_noise)

    assert {name: tensor.shape for name, tensor in block.state_dict().items()} == {
        name: tensor.shape for name, tensor in before.items()
    }
    assert all(torch.equal(tensor, before[name]) for name, tensor in block.state_dict().items())
    with torch.no_grad():
        block.attn1.to_v.bias.fill_(7)
    assert block.attn1.processor._bias[-block.attn1.to_v.bias.numel() :].eq(7).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_only_float32_on_a_cpu_is_joined(dtype: str) -> None:
    parts = load_parts(open_folder("embedded"), device="cpu", dtype=dtype)
    kinds = {type(block.attn1.processor) for transformer in parts.runnable for block in transformer.blocks}
    assert kinds == {JointSelfAttention if dtype == "float32" else SelfAttention}


def test_numbers_are_those_of_three_products(make_params) -> None:
    joint, separate = (Engine.from_pretrained("embedded", device="cpu", dtype="float32") for _ in range(2))
    for transformer in separate._parts.runnable:
        for block in transformer.blocks:
            block.attn1.set_processor(SelfAttention())
    params = make_params()
    torch.testing.assert_close(our_latents(joint, params), our_latents(separate, params), rtol=1e-4, atol=1e-4)


def test_an_expert_that_moves_in_is_seen_by_the_joint_product(make_params) -> None:
    params = make_params()
    latents = [
        our_latents(Engine.from_pretrained("embedded", device="cpu", dtype="float32", residency=residency), params)
        for residency in ("both", "swap", "rolling")
    ]
    assert all(torch.equal(each, latents[0]) for each in latents)
