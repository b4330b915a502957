"""Claims as the queue hands them out, for tests that need no queue; and running one to its end."""

from model.params import GenerationParams
from service.jobs.execution import Claim, JobPayload, Lease
from service.jobs.record import VideoRequest, new_asset_id, new_execution_id, new_job_id
from worker.held import HeldJob
from worker.runner import JobRunner


def run_to_end(runner: JobRunner, *jobs: HeldJob) -> None:
    for held in jobs:
        runner.take(held)
    while runner.is_busy:
        runner.advance()


def claim_of(params: GenerationParams, *, fingerprint: str, side: int = 256) -> Claim:
    """A first attempt at these parameters, delivered as a square."""
    job_id = new_job_id()
    payload = JobPayload(
        job_id=job_id, asset_id=new_asset_id(), request=request_of(params, side=side), fingerprint=fingerprint
    )
    return Claim(
        lease=Lease(job_id=job_id, execution_id=new_execution_id()),
        payload=payload,
        attempt=1,
        waited_seconds=0.1,
    )


def request_of(params: GenerationParams, *, side: int = 256) -> VideoRequest:
    return VideoRequest(
        model="wan2.2-t2v-embedded",
        prompt=params.prompt,
        negative_prompt=params.negative_prompt,
        width=params.width,
        height=params.height,
        delivery_width=side,
        delivery_height=side,
        num_frames=params.num_frames,
        fps=params.fps,
        seconds="2",
        num_inference_steps=params.num_inference_steps,
        guidance_scale=params.guidance_scale,
        guidance_scale_2=params.guidance_scale_2,
        flow_shift=params.flow_shift,
        seed=params.seed,
    )
