"""A gateway, workers and both servers as processes of their own, each of which can be killed and comes back."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from service.embedded import lifeline
from service.embedded.process import EmbeddedServer, RunFile, free_ports
from service.embedded.seaweed import ACCESS_KEY, SeaweedFS
from service.embedded.valkey import Valkey
from service.errors import EmbeddedServerError, Unavailable
from service.jobs.connection import connect
from service.jobs.store import VideoStore
from service.settings import Settings
from tests.chaos import worker_child
from tests.chaos.journal import journal_sizes

FORKING = multiprocessing.get_context("forkserver")
FORKING.set_forkserver_preload([worker_child.__name__])

LEASE_SECONDS = 3.0
HEARTBEAT_SECONDS = 0.5
STEP_SECONDS = 0.03
IDLE_SECONDS = 15.0
PATIENCE_SECONDS = 300.0
"""A worker takes seconds of a whole core to start; on a busy machine that is minutes."""


class Cluster:
    """Use it as a context manager, from one thread: servers and gateway end with the thread that started them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        """Of all logs and journals, and of the servers' data."""
        self._valkey = Valkey(folder / "data")
        self._seaweed = SeaweedFS(folder / "data")
        self._gateway: subprocess.Popen[bytes] | None = None
        self._workers: list[ForkServerProcess] = []
        self._closing = ExitStack()
        self.settings = Settings()

    def __enter__(self) -> Self:
        with ExitStack() as started:
            for server in (self._valkey, self._seaweed):
                started.callback(server.stop)
                server.start()
            self.settings = self._make_settings()
            self.redis = started.enter_context(connect(self._valkey.url))
            self.store = VideoStore(self.redis)
            started.callback(self._end_processes)
            self.start_gateway()
            self._closing = started.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    @property
    def address(self) -> str:
        return f"http://{self.settings.host}:{self.settings.port}"

    def start_gateway(self) -> None:
        """`python -m service.api`, which dies with this thread. Ready when it returns."""
        log = (self.folder / "gateway.log").open("ab")
        with log:
            command = [sys.executable, "-m", "service.api"]
            self._gateway = subprocess.Popen(
                [sys.executable, "-I", "-S", str(lifeline.__file__), str(os.getpid()), *command],
                env=self.settings.child_environment(),
                cwd=Path(__file__).parents[2],
                stdout=log,
                stderr=log,
            )
        wait_until(self._gateway_lives)

    def kill_gateway(self) -> None:
        assert self._gateway is not None
        self._gateway.kill()
        self._gateway.wait()

    def client(self) -> httpx.Client:
        """Of the gateway. The caller closes it."""
        return httpx.Client(base_url=self.address, timeout=30, trust_env=False)

    def start_workers(self, count: int, *, step_seconds: float = STEP_SECONDS) -> None:
        """Warm when it returns."""
        started = {self.start_worker(step_seconds=step_seconds) for _ in range(count)}
        wait_until(lambda: started <= set(self.warm_workers()))

    def start_worker(self, *, step_seconds: float = STEP_SECONDS) -> ForkServerProcess:
        """Not yet warm when it returns. A denoising step takes at least step_seconds."""
        arguments = (os.getpid(), self.settings.child_environment(), self.folder, step_seconds)
        worker = FORKING.Process(target=worker_child.run, args=arguments, daemon=True)
        worker.start()
        self._workers.append(worker)
        return worker

    @property
    def workers(self) -> list[ForkServerProcess]:
        """Those that have not ended."""
        return [worker for worker in self._workers if worker.is_alive()]

    def warm_workers(self) -> list[ForkServerProcess]:
        try:
            warm = {info.pid for info in self.store.live_workers()}
        except Unavailable:
            return []
        return [worker for worker in self.workers if worker.pid in warm]

    def worker_at_work(self) -> ForkServerProcess:
        """Waits until one of them does something for a job; any, where for a while nobody does."""
        before, since = journal_sizes(self.folder), time.monotonic()

        def at_work() -> list[ForkServerProcess]:
            if time.monotonic() - since > IDLE_SECONDS:
                return self.warm_workers()
            sizes = journal_sizes(self.folder)
            return [worker for worker in self.workers if sizes.get(worker.pid, 0) > before.get(worker.pid, 0)]

        wait_until(at_work)
        return at_work()[0]

    def end_workers(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.join()

    @staticmethod
    def send(worker: ForkServerProcess, number: signal.Signals) -> None:
        assert worker.pid is not None
        os.kill(worker.pid, number)

    def kill_redis(self) -> None:
        _kill_server(self._valkey)

    def revive_redis(self) -> None:
        """On the same port, with what it had on disk."""
        wait_until(lambda: _revive(self._valkey))

    def kill_storage(self) -> None:
        _kill_server(self._seaweed)

    def revive_storage(self) -> None:
        wait_until(lambda: _revive(self._seaweed))

    def logs(self) -> str:
        """The ends of all logs, for a failure's report."""
        files = sorted(self.folder.glob("*.log"))
        return "\n".join(f"== {file.name}\n{file.read_text(errors='replace')[-2000:]}" for file in files)

    def _make_settings(self) -> Settings:
        return Settings(
            data_dir=self.folder / "data",
            port=free_ports(["gateway"])["gateway"],
            redis_url=self._valkey.url,
            s3_endpoint=self._seaweed.endpoint,
            s3_access_key=ACCESS_KEY,
            s3_secret_key=self._seaweed.secret_key,
            s3_bucket="storm",
            lease_seconds=LEASE_SECONDS,
            heartbeat_seconds=HEARTBEAT_SECONDS,
            checkpoint_seconds=0.0,
            max_attempts=100,
            # So that nothing may be left in the end.
            provenance_records="with_files",
            log_format="json",
        )

    def _gateway_lives(self) -> bool:
        assert self._gateway is not None
        assert self._gateway.poll() is None, self.logs()
        try:
            return httpx.get(f"{self.address}/liveness", timeout=5, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def _end_processes(self) -> None:
        self.end_workers()
        if self._gateway is not None:
            self.kill_gateway()


def wait_until(condition: Callable[[], object], *, seconds: float = PATIENCE_SECONDS) -> None:
    """Returns as soon as it holds. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"Not so within {seconds:g} s.")
        time.sleep(0.02)


def _kill_server(server: EmbeddedServer) -> None:
    run = RunFile.model_validate_json(server.run_file.read_text())
    os.kill(run.pid, signal.SIGKILL)
    wait_until(lambda: not run.is_alive)


def _revive(server: EmbeddedServer) -> bool:
    try:
        return server.revive()
    except EmbeddedServerError:
        # Tried again later, as `wanserve up` does.
        return False
