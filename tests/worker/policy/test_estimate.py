"""Jobs from parameters, at A14B's cost."""

from dataclasses import replace

import pytest

from bench.simulate import CARD, FILM, PREVIEW, planned
from model.a14b import SHAPE
from model.cost import DeviceRate
from model.schedule import make_schedule
from worker.policy.estimate import Estimator

ESTIMATOR = Estimator(SHAPE, DeviceRate(peak_flop_per_second=989e12, share=0.5), dtype_bytes=2)


def test_a_film_takes_twice_what_is_known_at_the_full_peak():
    film = planned("film", FILM)

    assert [(phase.expert, phase.num_steps, phase.rows) for phase in film.phases] == [
        ("high_noise", 26, 2),
        ("low_noise", 14, 2),
    ]
    seconds = sum(phase.num_steps * phase.step_seconds for phase in film.phases)
    assert seconds == pytest.approx(2 * 527.5, rel=1e-3)
    assert film.decode_seconds == pytest.approx(2 * 639 / 989, rel=0.01)
    assert film.row_tokens == 75_600
    assert film.latent_shape == (1, 16, 21, 90, 160)
    assert film.parked_bytes < film.resident_bytes


def test_a_preview_without_guidance_is_one_row():
    preview = planned("preview", PREVIEW)

    assert [(phase.expert, phase.num_steps, phase.rows) for phase in preview.phases] == [
        ("high_noise", 2, 1),
        ("low_noise", 2, 1),
    ]
    assert 4 * preview.phases[0].step_seconds == pytest.approx(2 * 6.8, rel=0.01)


@pytest.mark.parametrize(
    ("steps_done", "left"),
    [
        (0, [("high_noise", 26), ("low_noise", 14)]),
        (10, [("high_noise", 16), ("low_noise", 14)]),
        (26, [("low_noise", 14)]),
        (39, [("low_noise", 1)]),
    ],
)
def test_a_resumed_job_has_less_left(steps_done, left):
    job = estimate(FILM, steps_done=steps_done)

    assert [(phase.expert, phase.num_steps) for phase in job.phases] == left


def test_a_job_that_is_denoised_has_nothing_to_plan():
    with pytest.raises(ValueError, match="clip has no step left"):
        estimate(FILM, steps_done=40)


def test_each_expert_has_its_own_guidance():
    job = estimate(replace(FILM, guidance_scale_2=1.0), steps_done=0)

    assert [phase.rows for phase in job.phases] == [2, 1]
    assert job.phases[0].step_seconds == 2 * job.phases[1].step_seconds


def estimate(params, *, steps_done):
    schedule = make_schedule(
        params.num_inference_steps, params.flow_shift, grid=CARD.sigma_grid, boundary_timestep=SHAPE.boundary_timestep
    )
    return ESTIMATOR.job("clip", params, schedule=schedule, priority="standard", arrived_at=0.0, steps_done=steps_done)
