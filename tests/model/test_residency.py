"""Wherever the experts lie, the numbers are those of two experts that never move."""

import itertools
from dataclasses import dataclass, replace

import pytest
import torch

from model.a14b import SHAPE
from model.attention import rotary_table
from model.denoise import Stack, predict_velocities
from model.describe import official_card
from model.experts import ExpertName
from model.folder import open_folder
from model.loader import choose_places, load_parts
from model.memory import RESIDENCIES, largest_batch
from model.residency import Residency
from model.text import text_keys_values

HIGH, LOW = "high_noise", "low_noise"
STEPS = [HIGH, HIGH, LOW, LOW, HIGH, LOW, LOW, HIGH, HIGH, LOW]
"""Of which expert: two generations and a stray step between."""


@pytest.fixture(scope="module")
def residencies() -> dict[str, Residency]:
    folder = open_folder("embedded")
    return {name: load_parts(folder, device="cpu", dtype="float32", residency=name).residency for name in RESIDENCIES}


@pytest.fixture(scope="module")
def both(residencies) -> Residency:
    return residencies["both"]


@pytest.fixture(params=["swap", "rolling"])
def moving(request, residencies) -> Residency:
    """A residency with one expert on the device, the high-noise one to begin with."""
    residency = residencies[request.param]
    with residency.forward(HIGH):
        return residency


@pytest.fixture
def rolling(residencies) -> Residency:
    with residencies["rolling"].forward(HIGH):
        return residencies["rolling"]


@dataclass(frozen=True)
class Input:
    """What one request brings to a forward."""

    latents: torch.Tensor
    prompts: tuple[torch.Tensor, ...]


def make_input(seed: int, *, num_rows: int = 2) -> Input:
    generator = torch.Generator().manual_seed(seed)
    return Input(
        latents=torch.randn(1, 16, 2, 8, 8, generator=generator),
        prompts=tuple(torch.randn(7 + row, 128, generator=generator) for row in range(num_rows)),
    )


@torch.inference_mode()
def run(
    residency: Residency, expert: ExpertName, *inputs: Input, followed_by: ExpertName | None = None
) -> list[torch.Tensor]:
    with residency.forward(expert, followed_by=followed_by) as transformer:
        return predict_velocities(transformer, [make_stack(transformer, each) for each in inputs])


def make_stack(transformer, each: Input) -> Stack:
    return Stack(
        latents=each.latents,
        timesteps=(900,),
        num_rows=(len(each.prompts),),
        text=text_keys_values(transformer, list(each.prompts), max_tokens=512),
        rotary=rotary_table(transformer, each.latents),
    )


def same(ours: list[torch.Tensor], reference: list[torch.Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(ours, reference, strict=True))


def test_the_experts_differ(both):
    assert not same(run(both, HIGH, make_input(1)), run(both, LOW, make_input(1)))


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "not announced"])
def test_every_residency_gives_the_same_numbers_bit_by_bit(both, moving, announced):
    # Several stacks at once: no block may change hands before the last of them has passed.
    inputs = [make_input(1), make_input(2, num_rows=1)]
    for expert, following in itertools.pairwise([*STEPS, HIGH]):
        followed_by = following if announced else None
        assert same(run(moving, expert, *inputs, followed_by=followed_by), run(both, expert, *inputs))


def test_a_wrong_hint_costs_a_swap_and_no_number(both, rolling):
    before = rolling.stats.num_swaps

    run(rolling, HIGH, make_input(1), followed_by=LOW)
    again = run(rolling, HIGH, make_input(1))

    assert same(again, run(both, HIGH, make_input(1)))
    assert rolling.stats.num_swaps == before + 1


def test_announced_switches_of_rolling_are_never_waited_for(rolling):
    before = (rolling.stats.num_swaps, rolling.stats.num_handovers)

    for expert, following in itertools.pairwise([*STEPS, HIGH]):
        run(rolling, expert, make_input(1), followed_by=following)
        assert rolling.resident == following

    num_switches = sum(one != other for one, other in itertools.pairwise([*STEPS, HIGH]))
    assert (rolling.stats.num_swaps, rolling.stats.num_handovers) == (before[0], before[1] + num_switches)


def test_swaps_are_counted_and_timed(residencies):
    swapped = residencies["swap"]
    with swapped.forward(HIGH):
        before = (swapped.stats.num_swaps, swapped.stats.swap_seconds)

    run(swapped, HIGH, make_input(1), followed_by=LOW)
    assert swapped.resident == HIGH
    run(swapped, LOW, make_input(1))

    assert swapped.resident == LOW
    assert swapped.stats.num_swaps == before[0] + 1
    assert swapped.stats.swap_seconds > before[1]


def test_weights_keep_their_addresses(moving):
    addresses = [parameter.data_ptr() for parameter in moving.on_device.parameters()]

    for expert, following in itertools.pairwise(STEPS):
        run(moving, expert, make_input(1), followed_by=following)

    assert [parameter.data_ptr() for parameter in moving.on_device.parameters()] == addresses


@pytest.mark.parametrize("num_blocks", [0, 1, 3, 6])
def test_a_forward_that_fails_leaves_its_expert_whole(both, rolling, num_blocks):
    """Out of memory half-way: the batch is halved and retried, with the expert that was being handed over."""
    modules = [*rolling.on_device.blocks, rolling.on_device.proj_out]
    hook = modules[num_blocks].register_forward_pre_hook(exhaust_memory)
    with pytest.raises(torch.OutOfMemoryError):
        run(rolling, HIGH, make_input(1), followed_by=LOW)
    hook.remove()

    before = rolling.stats.num_swaps
    assert rolling.resident == HIGH
    assert same(run(rolling, HIGH, make_input(1), followed_by=LOW), run(both, HIGH, make_input(1)))
    assert same(run(rolling, LOW, make_input(1)), run(both, LOW, make_input(1)))
    assert rolling.stats.num_swaps == before


def exhaust_memory(*_call: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


@torch.inference_mode()
def test_a_second_forward_inside_a_handover_is_refused_and_harms_nothing(both, rolling):
    with rolling.forward(HIGH, followed_by=LOW) as transformer:
        stack = make_stack(transformer, make_input(1))
        predict_velocities(transformer, [stack])
        with pytest.raises(RuntimeError, match="run one forward inside"):
            predict_velocities(transformer, [stack])
        with pytest.raises(RuntimeError, match="after making text keys and values"):
            make_stack(transformer, make_input(2))

    assert same(run(rolling, LOW, make_input(1)), run(both, LOW, make_input(1)))


def test_a_handover_without_a_forward_switches_all_the_same(both, rolling):
    with rolling.forward(HIGH, followed_by=LOW):
        pass

    assert rolling.resident == LOW
    assert same(run(rolling, LOW, make_input(1)), run(both, LOW, make_input(1)))


def test_no_hook_stays_behind(rolling):
    run(rolling, HIGH, make_input(1), followed_by=LOW)

    assert all(not module._forward_pre_hooks for module in rolling.on_device.modules())


def test_both_stay_where_they_are(both):
    run(both, HIGH, make_input(1), followed_by=LOW)

    assert both.resident is None
    assert (both.stats.num_swaps, both.stats.num_handovers) == (0, 0)


def test_on_the_cpu_auto_keeps_both():
    shape = open_folder("embedded").shape

    plan = choose_places("auto", shape=shape, clips=(), device=torch.device("cpu"), dtype=torch.float32)

    assert (plan.residency, plan.text_encoder_on_device) == ("both", True)


def test_an_unknown_residency_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="give auto, both, swap, rolling"):
        load_parts(open_folder("embedded"), device="cpu", residency="disk")


@pytest.mark.parametrize("gigabytes", [44, 48, 50])
def test_a_gpu_with_room_for_the_smaller_size_only_is_planned_for_that(monkeypatch, gigabytes):
    card = official_card(SHAPE, name="", digest="")
    clips = [replace(card.default_params(""), width=w, height=h) for w, h in card.native_sizes]
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (gigabytes * 10**9, 0))

    plan = choose_places("auto", shape=SHAPE, clips=clips, device=torch.device("cuda"), dtype=torch.bfloat16)

    assert largest_batch(plan, SHAPE, replace(clips[0], width=832, height=480)) >= 1
