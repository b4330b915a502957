"""Worker processes on the real servers, as an operator runs them."""

import functools
import multiprocessing
import subprocess
import sys
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
from redis import Redis

from service.jobs.queue import JobQueue
from service.jobs.request import parse, resolve
from service.jobs.store import VideoStore
from service.jobs.submission import Submission
from service.settings import Settings
from service.storage import Storage
from tests.e2e import worker_child

REPOSITORY = Path(__file__).parents[2]
FORKING = multiprocessing.get_context("forkserver")
FORKING.set_forkserver_preload([worker_child.__name__])

WaitUntil = Callable[..., None]


class Workers:
    """Starts worker processes and ends them all with the test."""

    def __init__(self, settings: Settings, log_folder: Path) -> None:
        self._settings = settings
        self._log_folder = log_folder
        self.processes: list[ForkServerProcess] = []
        self._command: subprocess.Popen[bytes] | None = None

    def start(self, *, step_seconds: float = 0.0) -> ForkServerProcess:
        """A new worker; with step_seconds a denoising step takes at least so long."""
        log_file = self._log_folder / f"worker-{len(self.processes)}.log"
        arguments = (self._settings.child_environment(), log_file, step_seconds)
        process = FORKING.Process(target=worker_child.run, args=arguments, daemon=True)
        process.start()
        self.processes.append(process)
        return process

    def start_command(self) -> None:
        """`python -m worker`, as an operator starts it."""
        environment = self._settings.child_environment() | {"OMP_NUM_THREADS": "1"}
        with (self._log_folder / "worker-command.log").open("wb") as log:
            command = [sys.executable, "-m", "worker"]
            self._command = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=log, stderr=log)

    def logs(self) -> str:
        return "\n".join(log.read_text() for log in sorted(self._log_folder.glob("worker-*.log")))

    def kill_all(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()
        if self._command is not None:
            self._command.kill()
            self._command.wait()


@pytest.fixture
def wait_until(wait_until: WaitUntil) -> WaitUntil:
    """A worker takes seconds of a whole core to start; on a busy machine that is minutes."""
    return functools.partial(wait_until, seconds=300.0)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Attempts enough for a storm; leases short, but longer than two busy cores keep a thread waiting."""
    return settings.with_changes(lease_seconds=5.0, heartbeat_seconds=0.5, max_attempts=10)


@pytest.fixture
def workers(settings: Settings, storage: Storage, tmp_path: Path) -> Iterator[Workers]:
    """Depends on storage so that the test's bucket is there."""
    running = Workers(settings, tmp_path)
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
