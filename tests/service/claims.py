"""Claims and outcomes as a worker would make them, and what became of them."""

from collections.abc import Callable

from redis import Redis

from service.jobs.execution import Claim, Lease, Outcome
from service.jobs.queue import JobQueue
from service.jobs.record import Asset, AssetFile, new_execution_id
from service.jobs.submission import Submission
from tests.conftest import FINGERPRINT

MakeSubmission = Callable[..., Submission]
OTHER_FINGERPRINT = "0" * 64


def claim(queue: JobQueue, worker: str = "w1") -> Claim:
    claimed = queue.claim(worker=worker, fingerprint=FINGERPRINT, execution_id=new_execution_id())
    assert claimed is not None
    return claimed


def completed(claimed: Claim) -> Outcome:
    request = claimed.payload.request
    file = AssetFile(key=f"assets/{claimed.payload.asset_id}/x/video.mp4", content_type="video/mp4", size_bytes=9)
    asset = Asset(
        id=claimed.payload.asset_id,
        video=file,
        width=request.delivery_width,
        height=request.delivery_height,
        num_frames=request.num_frames,
        fps=request.fps,
    )
    return Outcome.completed(asset, stage_durations={"total": 1.0}, inference_time_seconds=0.9, worker="w1")


def events(redis: Redis) -> list[tuple[str, str]]:
    """(video id, state) of every event in the outbox."""
    return [(fields["video_id"], fields["state"]) for _, fields in redis.xrange("wanserve:outbox")]


def lapse(redis: Redis, lease: Lease) -> None:
    """Let a lease run out now."""
    redis.zadd("wanserve:leases", {f"{lease.job_id}:{lease.execution_id}": 1})
