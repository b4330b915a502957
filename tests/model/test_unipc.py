"""Solver and noise levels, without any network."""

import numpy as np
import pytest
import torch

from model.schedule import make_schedule
from model.unipc import SolverState, solver_step, solver_weights
from tests.model.oracle import SCHEDULERS


def stock_scheduler(grid, *, num_steps, flow_shift):
    scheduler = SCHEDULERS[grid](
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        flow_shift=flow_shift,
        num_train_timesteps=1000,
    )
    scheduler.set_timesteps(num_steps)
    scheduler.set_begin_index(0)
    return scheduler


def velocity_at(latents, timestep):
    """Any smooth function will do."""
    return torch.sin(3 * latents + timestep / 250) + 0.1 * latents**2


@pytest.mark.parametrize("grid", ["official", "diffusers"])
@pytest.mark.parametrize(("num_steps", "flow_shift"), [(1, 3.0), (2, 1.0), (3, 12.0), (5, 5.0), (20, 3.0), (50, 12.0)])
def test_schedule_and_steps_equal_the_stock_scheduler(grid, num_steps, flow_shift):
    scheduler = stock_scheduler(grid, num_steps=num_steps, flow_shift=flow_shift)
    schedule = make_schedule(num_steps, flow_shift, grid=grid, boundary_timestep=875)
    ours = theirs = torch.randn(1, 4, 3, 5, 5, generator=torch.Generator().manual_seed(3))
    weights, state = solver_weights(schedule), SolverState.before_first_step(ours)

    for step, timestep in enumerate(scheduler.timesteps):
        velocity = velocity_at(ours, schedule.timesteps[step])
        ours, state = solver_step(state, velocity, latents=ours, weights=weights[step : step + 1])
        theirs = scheduler.step(velocity_at(theirs, timestep), timestep, theirs, return_dict=False)[0]

    assert schedule.timesteps == tuple(scheduler.timesteps.tolist())
    assert schedule.sigmas == tuple(scheduler.sigmas.tolist())
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_resumed_solver_goes_on_bit_by_bit():
    schedule = make_schedule(6, 5.0, grid="official", boundary_timestep=875)
    latents = torch.randn(1, 4, 1, 4, 4, generator=torch.Generator().manual_seed(3))
    weights = solver_weights(schedule)
    states = [(latents, SolverState.before_first_step(latents))]
    for step in range(6):
        latents, state = states[-1]
        velocity = velocity_at(latents, schedule.timesteps[step])
        states.append(solver_step(state, velocity, latents=latents, weights=weights[step : step + 1]))

    latents, state = states[3]
    for step in range(3, 6):
        velocity = velocity_at(latents, schedule.timesteps[step])
        latents, state = solver_step(state, velocity, latents=latents, weights=weights[step : step + 1])

    assert torch.equal(latents, states[6][0])


def test_requests_at_different_steps_of_different_schedules_advance_as_one_as_they_would_alone():
    schedules = [make_schedule(n, shift, grid="diffusers", boundary_timestep=875) for n, shift in ((3, 3.0), (9, 8.0))]
    tables = [solver_weights(schedule) for schedule in schedules]
    generator = torch.Generator().manual_seed(5)
    latents, velocity, *state = torch.randn(5, 2, 4, 3, 5, 5, generator=generator)
    state = SolverState(*state)

    together, following = solver_step(
        state, velocity, latents=latents, weights=torch.stack([tables[0][2], tables[1][4]])
    )

    for i, (table, step) in enumerate(zip(tables, (2, 4), strict=True)):
        row = slice(i, i + 1)
        part = SolverState(state.sample[row], state.clean[row], state.earlier_clean[row])
        alone, after = solver_step(part, velocity[row], latents=latents[row], weights=table[step : step + 1])
        torch.testing.assert_close(together[row], alone, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(following.sample[row], after.sample, rtol=1e-6, atol=1e-6)


def test_the_official_recipe_runs_26_steps_at_high_noise_and_the_converted_shift_13():
    official = make_schedule(40, 12.0, grid="official", boundary_timestep=875)
    converted = make_schedule(40, 3.0, grid="diffusers", boundary_timestep=875)

    assert official.num_high_noise_steps == 26
    assert converted.num_high_noise_steps == 13
    assert [official.is_high_noise(step) for step in (0, 25, 26, 39)] == [True, True, False, False]


@pytest.mark.parametrize("grid", ["official", "diffusers"])
@pytest.mark.parametrize("flow_shift", [0.1, 1.0, 100.0])
def test_noise_only_ever_falls(grid, flow_shift):
    sigmas = make_schedule(100, flow_shift, grid=grid, boundary_timestep=875).sigmas

    assert sigmas[0] < 1
    assert sigmas[-1] == 0
    assert np.all(np.diff(sigmas) < 0)
