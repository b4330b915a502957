"""What the queue's real scripts cost a real server: CPU seconds of its process an operation."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from redis import Redis

from bench.embedded_card import embedded_card
from service.embedded.valkey import Valkey
from service.errors import ServiceError
from service.jobs.connection import connect, connect_bytes
from service.jobs.execution import Lease, Outcome, Progress
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


class _Recorder(Redis):
    """Keeps the scripts' calls for later instead of making them, and answers nothing."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(connection_pool=redis.connection_pool)
        self.calls: list[tuple[Any, ...]] = []
        self.is_live = True

    def execute_command(self, *args: Any, **options: Any) -> Any:
        if self.is_live or args[0] != "EVALSHA":
            return super().execute_command(*args, **options)
        self.calls.append(args)
        return None


class _Meter:
    """Makes the calls of JobQueue and VideoStore, then sends many at once, as a busy server finds them."""

    def __init__(self, redis: Redis, registration: Redis) -> None:
        self._redis = redis
        self._recorder, registrar = _Recorder(redis), _Recorder(registration)
        registrar.calls = self._recorder.calls
        self._queue, self._store = _queue(self._recorder), VideoStore(self._recorder)
        self._presence = _presence(self._recorder, registrar)
        # Scripts are sent to the server here.
        _presence(redis, registration).show(is_busy=True)
        _play_through(redis)
        # A gateway knows the fleet after its first look.
        self._store.fleet()
        self._recorder.is_live = registrar.is_live = False

    def measure(self, num_jobs: int, *, num_waiting: int) -> dict[str, float]:
        def submit() -> object:
            return self._queue.submit(_submission())

        seconds = dict[str, float]()
        self._cpu_seconds(submit, num_waiting)
        seconds["submit"], submitted = self._cpu_seconds(submit, num_jobs)
        ids = iter([video_id for _, video_id, _ in submitted])
        seconds["get"], _ = self._cpu_seconds(lambda: self._store.look(next(ids)), num_jobs)
        executions = [new_execution_id() for _ in range(num_jobs)]
        drawn = iter(executions)
        seconds["claim"], claimed = self._cpu_seconds(lambda: self._claim(next(drawn)), num_jobs)
        seconds["ask"], _ = self._cpu_seconds(lambda: self._claim(new_execution_id(), busy_seconds=0.001), num_jobs)
        leases = [Lease(job_id=job[0], execution_id=each) for job, each in zip(claimed, executions, strict=True)]
        for name, operation in self._operations_on_leases().items():
            held = iter(leases)
            seconds[name], _ = self._cpu_seconds(lambda operation=operation, held=held: operation(next(held)), num_jobs)
        seconds["wait"] = self._wait_seconds(num_jobs)
        return seconds

    def _operations_on_leases(self) -> dict[str, Callable[[Lease], object]]:
        queue, progress = self._queue, Progress(stage="denoise", step=1, num_steps=40, percent=2)
        return {
            "report": lambda lease: queue.report(lease, progress),
            "checkpoint": lambda lease: queue.checkpoint(lease, f"saved/{lease.job_id}", step=1),
            "renew": lambda lease: queue.renew([lease]),
            "reclaim": lambda lease: queue.reclaim(),
            "show": lambda lease: self._presence.show(is_busy=True),
            "finish": lambda lease: queue.finish(lease, _outcome(lease.job_id)),
        }

    def _claim(self, execution_id: str, *, busy_seconds: float = 0.0) -> object:
        return self._queue.claim(
            worker="w1",
            fingerprint=CARD.fingerprint,
            execution_id=execution_id,
            shapes=["1280x720x81"],
            busy_seconds=busy_seconds,
        )

    def _cpu_seconds(self, operation: Callable[[], object], count: int) -> tuple[float, list[Any]]:
        """Of one operation, with the answers of all."""
        calls = self._recorder.calls
        calls.clear()
        for _ in range(count):
            # Nobody answered yet.
            with contextlib.suppress(TypeError, ValueError, ServiceError):
                operation()
        with self._redis.pipeline(transaction=False) as pipeline:
            for call in calls:
                pipeline.execute_command(*call)
            before = self._cpu()
            answers = pipeline.execute()
            return (self._cpu() - before) / count, answers

    def _wait_seconds(self, count: int) -> float:
        with self._redis.pipeline(transaction=False) as pipeline:
            for number in range(count):
                pipeline.lpush("token", number).blpop(["token"], timeout=1)
            before = self._cpu()
            pipeline.execute()
            return (self._cpu() - before) / count

    def _cpu(self) -> float:
        info = self._redis.info("cpu")
        return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


def _play_through(redis: Redis) -> None:
    """One job from its submission to its end."""
    queue, store = _queue(redis), VideoStore(redis)
    store.look(queue.submit(_submission()).record.id)
    claimed = queue.claim(worker="w1", fingerprint=CARD.fingerprint, execution_id=new_execution_id())
    assert claimed is not None
    queue.report(claimed.lease, Progress(stage="denoise", step=1, num_steps=40, percent=2))
    queue.checkpoint(claimed.lease, "saved/first", step=1)
    queue.renew([claimed.lease])
    queue.reclaim()
    queue.finish(claimed.lease, _outcome(claimed.payload.asset_id))


def _presence(redis: Redis, registration: Redis) -> Presence:
    info = WorkerInfo(name="w1", model=CARD.id, device="cpu", started_at=0.0, host="here", pid=1)
    return Presence(VideoStore(redis), registration, worker=info, card=CARD, queues=PRIORITIES, ttl_seconds=30.0)


def _queue(redis: Redis) -> JobQueue:
    return JobQueue(redis, Settings(max_queue_depth=10**9))


def _submission() -> Submission:
    asked = parse({"prompt": "a red ball bouncing on a blue background", "seed": -1})
    return Submission(request=resolve(asked, CARD).request, fingerprint=CARD.fingerprint, expected_seconds=10.0)


def _outcome(asset_id: str) -> Outcome:
    file = AssetFile(key=f"assets/{asset_id}/video.mp4", content_type="video/mp4", size_bytes=1)
    asset = Asset(id=asset_id, video=file, width=256, height=256, num_frames=17, fps=8)
    return Outcome.completed(asset, stage_durations={"total": 1.0}, inference_time_seconds=1.0, worker="w1")
