"""What the policy must know of a job, from its parameters and the cost model."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from model.cost import DeviceRate, cost_coefficients, guidance_rows, parked_state_bytes, resident_state_bytes
from model.params import GenerationParams
from model.schedule import Schedule
from model.shapes import CheckpointShape
from worker.policy.job import Job, Phase, Priority

if TYPE_CHECKING:
    from model.experts import ExpertName


class Estimator:
    """For one checkpoint on one device. dtype_bytes: of one number of the experts."""

    def __init__(self, shape: CheckpointShape, rate: DeviceRate, *, dtype_bytes: int) -> None:
        self._shape = shape
        self._rate = rate
        self._dtype_bytes = dtype_bytes
        self._cost = cost_coefficients(shape)

    def job(
        self,
        job_id: str,
        params: GenerationParams,
        *,
        schedule: Schedule,
        priority: Priority,
        arrived_at: float,
        deadline: float | None = None,
        steps_done: int = 0,
    ) -> Job:
        """schedule: the engine's for these params. The text encoder's share is below a thousandth and left out."""
        return Job(
            id=job_id,
            priority=priority,
            arrived_at=arrived_at,
            deadline=deadline,
            latent_shape=self._shape.latent_shape(
                width=params.width, height=params.height, num_frames=params.num_frames
            ),
            row_tokens=self._cost.num_tokens(params),
            phases=tuple(self._phases(params, schedule, steps_done)),
            decode_seconds=self._rate.seconds(self._cost.decode_flop(params)),
            resident_bytes=resident_state_bytes(self._shape, params, dtype_bytes=self._dtype_bytes),
            parked_bytes=parked_state_bytes(self._shape, params),
        )

    def _phases(self, params: GenerationParams, schedule: Schedule, steps_done: int) -> Iterator[Phase]:
        high_noise_steps = schedule.num_high_noise_steps
        low_noise_steps = schedule.num_steps - high_noise_steps
        high_noise_done = min(steps_done, high_noise_steps)
        if high_noise_steps > high_noise_done:
            yield self._phase("high_noise", params, high_noise_steps - high_noise_done)
        if low_noise_steps > steps_done - high_noise_done:
            yield self._phase("low_noise", params, low_noise_steps - (steps_done - high_noise_done))

    def _phase(self, expert: "ExpertName", params: GenerationParams, num_steps: int) -> Phase:
        scale = params.guidance_scale if expert == "high_noise" else params.guidance_scale_2
        return Phase(
            expert=expert,
            num_steps=num_steps,
            rows=guidance_rows(scale),
            step_seconds=self._rate.seconds(self._cost.step_flop(params, scale)),
        )
