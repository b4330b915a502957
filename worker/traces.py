"""A job's part of its request's trace: one span for the job, and in it one for each stage that it came to."""

from itertools import pairwise

from service.tracing import Tracing
from worker.held import HeldJob

FAILURES = ("failed", "retried", "lost", "refused")


def trace_job(tracing: Tracing, held: HeldJob, *, worker: str, outcome: str, at: float) -> None:
    """Once, when it has ended here. at: Unix seconds."""
    claim, payload = held.claim, held.claim.payload
    request = payload.request
    waited_from = held.taken_at - claim.waited_seconds
    if claim.attempt == 1:
        tracing.start("queue", parent=payload.traceparent, at=waited_from).end(at=held.taken_at, attributes={})
    job = tracing.start("job", parent=payload.traceparent, at=held.taken_at)
    ends = [*held.entered.items(), ("", at)]
    for (stage, begun), (_, ended) in pairwise(ends):
        tracing.start(stage, parent=job.traceparent, at=begun).end(at=ended, attributes={})
    job.end(
        at=at,
        attributes={
            "wanserve.job_id": held.id,
            "wanserve.attempt": claim.attempt,
            "wanserve.worker": worker,
            "wanserve.outcome": outcome,
            "wanserve.model": request.model,
            "wanserve.size": f"{request.width}x{request.height}",
            "wanserve.num_frames": request.num_frames,
            "wanserve.num_inference_steps": request.num_inference_steps,
        },
        error=outcome if outcome in FAILURES else None,
    )
