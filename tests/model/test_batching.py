"""Many requests in flight: each is exact, whatever its company; a failure is the failure of one."""

import itertools
from dataclasses import dataclass

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.batch import batches_of
from model.engine import Engine
from model.errors import OutOfMemory
from tests.model.oracle import our_latents, relative_error, stock_latents

STRANGERS = [
    {"prompt": "a red circle moves left", "num_inference_steps": 1},
    {"prompt": "一个蓝色的星星", "num_inference_steps": 7, "flow_shift": 8.0},
    {"prompt": "a white square on a black background, growing", "num_inference_steps": 4, "guidance_scale": 6.5},
    {"prompt": "a green triangle", "num_inference_steps": 5, "guidance_scale": 1.0, "guidance_scale_2": 1.0},
    {"prompt": "a ball", "num_inference_steps": 3, "guidance_scale_2": 1.0, "negative_prompt": "blurry, low quality"},
    {"prompt": "a yellow star falling", "num_inference_steps": 6, "flow_shift": 1.0, "num_frames": 9},
    {"prompt": "a black ring", "num_inference_steps": 30, "flow_shift": 12.0, "guidance_scale_2": 3.0},
]


@dataclass
class Arrival:
    """A request and the step of the engine at which it comes."""

    changes: dict
    tick: int


def run_together(engine, make_params, arrivals):
    """Latents in the order of the arrivals."""
    requests = {}
    for tick in itertools.count():
        for index, arrival in enumerate(arrivals):
            if arrival.tick == tick:
                requests[index] = engine.prepare(make_params(**arrival.changes))
        in_flight = [request for request in requests.values() if not request.is_denoised]
        if len(requests) == len(arrivals) and not in_flight:
            break
        assert engine.step(in_flight) == {}
    return [requests[index].latents for index in range(len(arrivals))]


def test_strangers_in_one_batch_agree_with_a_stock_pipeline_run_each(engine, stock_pipeline, make_params):
    arrivals = [Arrival({"seed": i, **changes}, tick=i // 2) for i, changes in enumerate(STRANGERS)]

    latents = run_together(engine, make_params, arrivals)

    for arrival, ours in zip(arrivals, latents, strict=True):
        assert relative_error(ours, stock_latents(stock_pipeline, make_params(**arrival.changes))) < 1e-4


ARRIVALS = st.builds(
    Arrival,
    st.fixed_dictionaries(
        {
            "prompt": st.sampled_from(["a red circle", "白色背景上，一个绿色的三角形向右移动", "a star, " * 20]),
            "seed": st.integers(0, 5),
            "num_inference_steps": st.integers(1, 30),
            "num_frames": st.sampled_from([1, 5]),
            "flow_shift": st.sampled_from([1.0, 3.0, 12.0]),
            "guidance_scale": st.sampled_from([1.0, 4.0]),
            "guidance_scale_2": st.sampled_from([1.0, 3.0]),
        }
    ),
    st.integers(0, 4),
)


@settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrivals=st.lists(ARRIVALS, min_size=6, max_size=8))
def test_any_mix_equals_each_request_alone(engine, make_params, arrivals):
    for arrival, together in zip(arrivals, run_together(engine, make_params, arrivals), strict=True):
        assert relative_error(together, our_latents(engine, make_params(**arrival.changes))) < 1e-4


def test_a_batch_invariant_engine_gives_the_same_bits_whatever_the_company(make_params):
    engine = Engine.from_pretrained("embedded", device="cpu", dtype="float32", batch_invariant=True)
    arrivals = [Arrival({"seed": i, **changes}, tick=i // 2) for i, changes in enumerate(STRANGERS)]

    latents = run_together(engine, make_params, arrivals)

    for arrival, ours in zip(arrivals, latents, strict=True):
        assert torch.equal(ours, our_latents(engine, make_params(**arrival.changes)))


@pytest.mark.parametrize("residency", ["swap", "rolling"])
def test_strangers_get_the_same_bits_wherever_the_experts_lie(engine, make_params, residency):
    moving = Engine.from_pretrained("embedded", device="cpu", dtype="float32", residency=residency)
    arrivals = [Arrival({"seed": i, **changes}, tick=i // 2) for i, changes in enumerate(STRANGERS)]

    together = run_together(moving, make_params, arrivals)

    assert all(map(torch.equal, together, run_together(engine, make_params, arrivals)))


@pytest.mark.parametrize("batch_invariant", [False, True])
def test_one_request_after_another_never_waits_for_a_rolling_switch(make_params, batch_invariant):
    rolling = Engine.from_pretrained(
        "embedded", device="cpu", dtype="float32", residency="rolling", batch_invariant=batch_invariant
    )
    for seed in range(3):
        our_latents(rolling, make_params(seed=seed, num_inference_steps=8))

    stats = rolling._parts.residency.stats
    # Every request: there, and back for the next one.
    assert (stats.num_handovers, stats.num_swaps) == (6, 0)


def test_only_equal_shapes_at_the_same_expert_share_a_forward(engine, make_params):
    early, late, long = (
        engine.prepare(make_params(**changes))
        for changes in ({"num_inference_steps": 4}, {"num_inference_steps": 4}, {"num_frames": 9})
    )
    while late.expert == "high_noise":
        engine.step([late])
    other = engine.prepare(make_params(seed=4, num_inference_steps=30, guidance_scale=1.0))

    assert batches_of([early, late, long, other]) == [[early, other], [late], [long]]


class SmallDevice:
    """predict_velocities() on a device that holds so many requests at once."""

    def __init__(self, monkeypatch, max_requests):
        from model import stepper as module

        self._predict = module.predict_velocities
        self._max_requests = max_requests
        self.sizes = []
        monkeypatch.setattr(module, "predict_velocities", self)

    def __call__(self, transformer, stacks):
        size = sum(len(stack.num_rows) for stack in stacks)
        self.sizes.append(size)
        if size > self._max_requests:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self._predict(transformer, stacks)


def test_a_batch_too_large_for_memory_is_halved_until_it_fits(engine, make_params, monkeypatch):
    device = SmallDevice(monkeypatch, max_requests=2)
    requests = [engine.prepare(make_params(seed=seed)) for seed in range(5)]

    assert engine.step(requests) == {}
    assert device.sizes == [5, 2, 3, 1, 2]
    assert [request.step for request in requests] == [1] * 5


def test_an_invariant_batch_that_runs_out_of_memory_late_steps_nobody_twice(make_params, monkeypatch):
    from model import stepper as module

    engine = Engine.from_pretrained("embedded", device="cpu", dtype="float32", batch_invariant=True)
    requests = [engine.prepare(make_params(seed=seed)) for seed in range(3)]
    solve, calls = module.solve, itertools.count(1)

    def fail_second(*args):
        if next(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return solve(*args)

    monkeypatch.setattr(module, "solve", fail_second)
    assert engine.step(requests) == {}
    assert [request.step for request in requests] == [1, 1, 1]


def test_a_request_given_twice_or_already_denoised_is_refused_and_nobody_steps(engine, make_params):
    done, fresh = engine.prepare(make_params(num_inference_steps=1)), engine.prepare(make_params())
    engine.step([done])

    for wrong in ([fresh, fresh], [fresh, done]):
        with pytest.raises(ValueError, match="given once"):
            engine.step(wrong)
    assert fresh.step == 0


def test_a_denoised_request_keeps_no_tensor_of_the_batch_nor_text(engine, make_params):
    short, long = engine.prepare(make_params(num_inference_steps=1)), engine.prepare(make_params())
    engine.step([short, long])

    assert short.latents.untyped_storage().nbytes() == short.latents.nbytes
    assert short.solver.sample.untyped_storage().nbytes() == short.latents.nbytes
    assert short.text is None


def test_stacked_text_goes_with_its_requests(make_params):
    engine = Engine.from_pretrained("embedded", device="cpu", dtype="float32")
    requests = [engine.prepare(make_params(seed=seed)) for seed in range(2)]
    engine.step(requests)
    assert len(engine._stepper._text_stacks) == 1

    del requests
    assert len(engine._stepper._text_stacks) == 0


def test_where_not_even_one_fits_every_request_fails_for_itself(engine, make_params, monkeypatch):
    requests = [engine.prepare(make_params(seed=seed)) for seed in range(3)]
    SmallDevice(monkeypatch, max_requests=0)

    failed = engine.step(requests)

    assert set(failed) == set(requests)
    assert all(isinstance(error, OutOfMemory) for error in failed.values())
    assert [request.step for request in requests] == [0, 0, 0]


def test_the_text_is_stacked_once_while_the_company_stays_the_same(engine, make_params, monkeypatch):
    joins = []
    from model import text_stack

    join = text_stack._join
    monkeypatch.setattr(text_stack, "_join", lambda entries: joins.append(len(entries)) or join(entries))
    requests = [engine.prepare(make_params(seed=seed, num_inference_steps=12)) for seed in range(3)]
    num_blocks = 6

    while requests[0].expert == "high_noise":
        engine.step(requests)
    assert len(joins) == num_blocks
    engine.step(requests[:2])
    engine.step(requests[:2])
    assert len(joins) == 2 * num_blocks
