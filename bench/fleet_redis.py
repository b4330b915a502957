"""What the queue's real scripts cost a real server: CPU seconds of its process an operation."""

from collections.abc import Callable
from pathlib import Path

from redis import Redis

from bench.embedded_card import embedded_card
from service.embedded.valkey import Valkey
from service.jobs.connection import connect, connect_bytes
from service.jobs.execution import Claim, Outcome, Progress
from service.jobs.queue import JobQueue
from service.jobs.record import PRIORITIES, Asset, AssetFile, WorkerInfo, new_execution_id
from service.jobs.request import parse, resolve
from service.jobs.store import VideoStore
from service.jobs.submission import Submission
from service.settings import Settings
from worker.presence import Presence

CARD = embedded_card()


def operation_seconds(folder: Path, *, num_jobs: int, num_waiting: int = 200) -> dict[str, float]:
    """By the name of the operation. num_jobs: so often each is done, while num_waiting others wait."""
    server = Valkey(folder)
    server.start()
    try:
        with connect(server.url) as redis, connect_bytes(server.url) as registration:
            return _Meter(redis, registration).measure(num_jobs, num_waiting=num_waiting)
    finally:
        server.stop()


def bytes_a_job(folder: Path, *, num_jobs: int) -> float:
    """Of the server's memory, for one that waits."""
    server = Valkey(folder)
    server.start()
    try:
        with connect(server.url) as redis:
            before = redis.info("memory")["used_memory"]
            queue = _queue(redis)
            for _ in range(num_jobs):
                queue.submit(_submission())
            return float(redis.info("memory")["used_memory"] - before) / num_jobs
    finally:
        server.stop()


class _Meter:
    def __init__(self, redis: Redis, registration: Redis) -> None:
        self._redis = redis
        self._queue = _queue(redis)
        self._store = VideoStore(redis)
        info = WorkerInfo(name="w1", model=CARD.id, device="cpu", started_at=0.0, host="here", pid=1)
        self._presence = Presence(
            self._store, registration, worker=info, card=CARD, queues=PRIORITIES, ttl_seconds=30.0
        )

    def measure(self, num_jobs: int, *, num_waiting: int) -> dict[str, float]:
        queue, claims, video_ids = self._queue, list[Claim](), list[str]()
        self._presence.show(is_busy=True)
        for _ in range(num_waiting):
            queue.submit(_submission())
        submissions = [_submission() for _ in range(num_jobs)]
        progress = Progress(stage="denoise", step=1, num_steps=40, percent=2)

        def claim(*, busy_seconds: float = 0.0) -> None:
            claimed = queue.claim(
                worker="w1",
                fingerprint=CARD.fingerprint,
                execution_id=new_execution_id(),
                shapes=["1280x720x81"],
                busy_seconds=busy_seconds,
            )
            if claimed is not None:
                claims.append(claimed)

        def each(operation: Callable[[int], object]) -> float:
            return self._cpu_seconds(operation, num_jobs)

        seconds = {"submit": each(lambda number: video_ids.append(queue.submit(submissions[number]).record.id))}
        seconds["get"] = each(lambda number: self._store.look(video_ids[number]))
        seconds["claim"] = each(lambda _: claim())
        seconds["ask"] = each(lambda _: claim(busy_seconds=0.001))
        seconds["report"] = each(lambda number: queue.report(claims[number].lease, progress))
        seconds["checkpoint"] = each(lambda number: queue.checkpoint(claims[number].lease, f"saved/{number}", step=1))
        seconds["beat"] = each(lambda number: self._beat(claims[number]))
        seconds["finish"] = each(lambda number: queue.finish(claims[number].lease, _outcome(claims[number])))
        seconds["wait"] = each(lambda _: self._redis.blpop(["nothing"], timeout=0.001))
        return seconds

    def _beat(self, claim: Claim) -> None:
        self._queue.renew([claim.lease])
        self._presence.show(is_busy=True)
        self._queue.reclaim()

    def _cpu_seconds(self, operation: Callable[[int], object], count: int) -> float:
        before = self._cpu()
        for number in range(count):
            operation(number)
        return (self._cpu() - before) / count

    def _cpu(self) -> float:
        info = self._redis.info("cpu")
        return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


def _queue(redis: Redis) -> JobQueue:
    return JobQueue(redis, Settings(max_queue_depth=10**9))


def _submission() -> Submission:
    asked = parse({"prompt": "a red ball bouncing on a blue background", "seed": -1})
    return Submission(request=resolve(asked, CARD).request, fingerprint=CARD.fingerprint, expected_seconds=10.0)


def _outcome(claim: Claim) -> Outcome:
    file = AssetFile(key=f"assets/{claim.payload.asset_id}/video.mp4", content_type="video/mp4", size_bytes=1)
    asset = Asset(id=claim.payload.asset_id, video=file, width=256, height=256, num_frames=17, fps=8)
    return Outcome.completed(asset, stage_durations={"total": 1.0}, inference_time_seconds=1.0, worker="w1")
