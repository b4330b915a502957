"""Worker processes on the real servers, as an operator runs them."""

import functools
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from service.jobs.queue import JobQueue
from service.jobs.record import Submission
from service.jobs.request import parse, resolve
from service.jobs.store import VideoStore
from service.settings import Settings
from service.storage import Storage

REPOSITORY = Path(__file__).parents[2]
SLOW_WORKER = Path(__file__).with_name("slow_worker.py")

WaitUntil = Callable[..., None]


class Workers:
    """Starts worker processes and ends them all with the test."""

    def __init__(self, settings: Settings, store: VideoStore, log_folder: Path) -> None:
        self._settings = settings
        self._store = store
        self._log_folder = log_folder
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *, step_seconds: float = 0.0) -> subprocess.Popen[bytes]:
        """A new worker; with step_seconds a denoising step takes at least so long, as on a big checkpoint."""
        slow = [str(SLOW_WORKER), str(step_seconds)]
        command = [sys.executable, *(slow if step_seconds else ["-m", "worker"])]
        environment = self._settings.child_environment() | {"OMP_NUM_THREADS": "1"}
        with (self._log_folder / f"worker-{len(self.processes)}.log").open("wb") as output:
            process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=output, stderr=output)
        self.processes.append(process)
        return process

    def is_ready(self, process: subprocess.Popen[bytes]) -> bool:
        assert process.poll() is None, self.logs()
        return process.pid in self.ready_pids()

    def ready_pids(self) -> set[int]:
        return {worker.pid for worker in self._store.live_workers()}

    def logs(self) -> str:
        return "\n".join(log.read_text() for log in sorted(self._log_folder.glob("worker-*.log")))

    def kill_all(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()


@pytest.fixture
def wait_until(wait_until: WaitUntil) -> WaitUntil:
    """A worker takes seconds of a whole core to start; on a busy machine that is minutes."""
    return functools.partial(wait_until, seconds=300.0)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Attempts enough for a storm; leases short, but longer than two busy cores keep a thread waiting."""
    return settings.with_changes(lease_seconds=5.0, heartbeat_seconds=0.5, max_attempts=10)


@pytest.fixture
def workers(settings: Settings, store: VideoStore, storage: Storage, tmp_path: Path) -> Iterator[Workers]:
    """Depends on storage so that the test's bucket is there."""
    running = Workers(settings, store, tmp_path)
    yield running
    running.kill_all()


@pytest.fixture
def submit(queue: JobQueue, store: VideoStore, wait_until: WaitUntil) -> Callable[..., str]:
    """submit("a prompt", seed=3) queues a video by the card of the worker that runs, and gives its id."""

    def make(prompt: str, **fields: object) -> str:
        wait_until(store.cards)
        card = store.card()
        request = resolve(parse({"prompt": prompt, **fields}), card).request
        return queue.submit(Submission(request=request, fingerprint=card.fingerprint)).record.id

    return make


@pytest.fixture
def events(redis: Redis) -> Callable[[], list[tuple[str, str]]]:
    """events() lists (video id, type) of the outbox."""

    def read() -> list[tuple[str, str]]:
        return [(fields["video_id"], fields["type"]) for _, fields in redis.xrange("wanserve:outbox")]

    return read
