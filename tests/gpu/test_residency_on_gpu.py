"""Residencies on a CUDA device, where weights move on a stream of their own beside the kernels."""

import gc
import itertools

import pytest
import torch

from model.attention import rotary_table
from model.denoise import Stack, predict_velocities
from model.experts import ExpertName
from model.folder import open_folder
from model.loader import load_parts
from model.residency import Residency
from model.text import text_keys_values

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

HIGH, LOW = "high_noise", "low_noise"
STEPS = [HIGH, HIGH, LOW, LOW, HIGH, LOW, HIGH, HIGH, LOW, LOW]


def load(name: str) -> Residency:
    return load_parts(open_folder("embedded"), device="cuda", dtype="bfloat16", residency=name).residency


@torch.inference_mode()
def velocities(residency: Residency, steps: list[ExpertName]) -> list[torch.Tensor]:
    """One forward after another without waiting for any, so that copies and kernels meet."""
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(1, 16, 5, 32, 32, generator=generator).cuda()
    prompts = [torch.randn(9, 128, generator=generator).cuda() for _ in range(2)]
    results = []
    for expert, following in itertools.pairwise([*steps, steps[0]]):
        with residency.forward(expert, followed_by=following) as transformer:
            stack = Stack(
                latents=latents,
                timesteps=(900,),
                num_rows=(2,),
                text=text_keys_values(transformer, prompts, max_tokens=512),
                rotary=rotary_table(transformer, latents),
            )
            results += predict_velocities(transformer, [stack])
    torch.cuda.synchronize()
    return results


@pytest.mark.parametrize("name", ["swap", "rolling"])
def test_every_residency_gives_the_same_numbers_bit_by_bit(name):
    reference = velocities(load("both"), STEPS)

    for _ in range(5):
        moving = velocities(load(name), STEPS)
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(moving, reference, strict=True))


@pytest.mark.parametrize("name", ["swap", "rolling"])
def test_one_expert_less_lies_on_the_device(name):
    held = {}
    for residency_name in ("both", name):
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        residency = load(residency_name)
        # The loader's other parts go now.
        gc.collect()
        held[residency_name] = torch.cuda.memory_allocated() - before
        del residency

    assert held[name] < 0.6 * held["both"]
