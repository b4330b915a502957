"""One server process and the run file that tells who runs it, on which ports, for whom. Knows no protocol."""

import fcntl
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from service.backoff import Backoff
from service.errors import EmbeddedServerError
from service.logs import get_logger

LOOPBACK = "127.0.0.1"
READY_SECONDS = 60.0
STOP_SECONDS = 15.0
POLL_SECONDS = 0.03
MIN_FREE_BYTES = 256 * 2**20
MAX_LOG_BYTES = 10 * 2**20
"""A longer log is put aside at the next launch; one such is kept."""

NUM_LAUNCHES = 3
"""A free port can be taken between finding and using it."""

_LIFELINE = (sys.executable, "-I", "-S", str(Path(__file__).with_name("lifeline.py")))

log = get_logger(__name__)


class RunFile(BaseModel):
    """Who runs a server. A process is told by its id and its start, since ids are used again."""

    model_config = ConfigDict(frozen=True)

    pid: int
    started: str
    owner_pid: int
    owner_started: str
    ports: dict[str, int]

    @property
    def is_alive(self) -> bool:
        return process_start(self.pid) == self.started

    @property
    def has_owner(self) -> bool:
        return process_start(self.owner_pid) == self.owner_started


class EmbeddedServer(ABC):
    """A server under one folder: started, reused from another process, or taken from a dead one."""

    name: str
    port_names: Sequence[str]
    """The first is the one that clients use."""

    def __init__(self, data_dir: Path) -> None:
        self.folder = data_dir / self.name
        self.is_owned = False
        """We started it, so we stop it."""
        self.ports: dict[str, int] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._backoff = Backoff(first_seconds=0)
        self._is_death_noted = False

    @property
    def port(self) -> int:
        return self.ports[self.port_names[0]]

    @property
    def run_file(self) -> Path:
        return self.folder / "run.json"

    @property
    def log_file(self) -> Path:
        return self.folder / "server.log"

    def start(self) -> None:
        """Ready when it returns. It lives no longer than the calling thread. Raises EmbeddedServerError."""
        with self._folder_errors():
            self._check_folder()
            with _locked(self.folder / "lock"):
                if not self._reuse():
                    self._launch_somewhere()

    @contextmanager
    def borrowed(self) -> Iterator[None]:
        """Runs in the block: one that lives already, else one of the block's own, whose end other starts wait for.

        Raises EmbeddedServerError.
        """
        with self._folder_errors():
            self._check_folder()
            (self.folder / "lock").touch()
        with _locked(self.folder / "lock"):
            with self._folder_errors():
                if not self._reuse():
                    self._launch_somewhere()
            try:
                yield
            finally:
                self.stop()

    def find(self) -> bool:
        """Whether one lives under this folder; fills in its ports. Starts and stops nothing."""
        run = self._read_run_file()
        if run is None or not run.is_alive or not self.is_ready(run.ports):
            return False
        self.ports = run.ports
        return True

    def revive(self) -> bool:
        """Restart on the same ports if it is ours, died and is due: later each time. Whether it was restarted.

        Raises EmbeddedServerError; call it again later.
        """
        if not self.is_owned or self._process is None or self._process.poll() is None:
            return False
        if not self._is_death_noted:
            self._note_death(self._process.returncode)
        if not self._backoff.is_due:
            return False
        try:
            with self._folder_errors():
                self._check_folder()
                self._launch(self.ports)
        except EmbeddedServerError:
            self._backoff.ended()
            raise
        return True

    def stop(self) -> None:
        """End what we started; anything else stays. Safe to call twice."""
        if not self.is_owned or self._process is None:
            return
        self.is_owned = False
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._clear_traces(self.ports)

    @abstractmethod
    def command(self, ports: Mapping[str, int]) -> Sequence[str | Path]:
        """The server in the foreground, on these ports."""

    @abstractmethod
    def environment(self) -> Mapping[str, str]:
        """Variables that the server needs beside ours."""

    @abstractmethod
    def is_ready(self, ports: Mapping[str, int]) -> bool:
        """Whether our server, and not some other one, answers there."""

    @abstractmethod
    def leftovers(self, ports: Mapping[str, int]) -> Sequence[Path]:
        """Files outside the folder that a killed server leaves behind."""

    def _note_death(self, exit_status: int) -> None:
        delay = self._backoff.ended()
        self._is_death_noted = True
        log.warning("embedded_server_died", server=self.name, exit_status=exit_status, starts_again_in_seconds=delay)

    @contextmanager
    def _folder_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            raise EmbeddedServerError(
                f"{self.name} can't use {self.folder} ({e.strerror}): free some space, or set another "
                "WANSERVE_DATA_DIR."
            ) from e

    def _check_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if free < MIN_FREE_BYTES:
            raise EmbeddedServerError(
                f"No disk space for {self.name}: {free / 2**20:.0f} MiB are free under {self.folder}, "
                f"{MIN_FREE_BYTES / 2**20:.0f} MiB are needed. Free some, or set WANSERVE_DATA_DIR."
            )

    def _reuse(self) -> bool:
        run = self._read_run_file()
        if run is None or not run.is_alive:
            return False
        if run.has_owner:
            _wait_until(lambda: self.is_ready(run.ports) or not run.is_alive, READY_SECONDS)
        if run.has_owner and run.is_alive:
            self.ports = run.ports
            log.info("embedded_server_reused", server=self.name, port=self.port)
            return True
        log.info("embedded_server_orphan_stopped", server=self.name, pid=run.pid)
        _end_foreign_process(run)
        self._clear_traces(run.ports)
        return False

    def _launch_somewhere(self) -> None:
        """On last time's ports if they are free, so that addresses stay the same; else on others."""
        run = self._read_run_file()
        wanted = {} if run is None else run.ports
        if set(wanted) != set(self.port_names) or not all(is_free(port) for port in wanted.values()):
            wanted = free_ports(self.port_names)
        for launch in range(NUM_LAUNCHES):
            try:
                return self._launch(wanted)
            except PortTaken as e:
                if launch == NUM_LAUNCHES - 1:
                    raise EmbeddedServerError(str(e)) from e
                wanted = free_ports(self.port_names)
        return None

    def _launch(self, ports: dict[str, int]) -> None:
        start_of_log = self._open_log()
        with self.log_file.open("ab") as output:
            process = subprocess.Popen(
                [*_LIFELINE, str(os.getpid()), *(str(part) for part in self.command(ports))],
                cwd=self.folder,
                env={**os.environ, **self.environment()},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C goes to us alone: clients end first, servers last.
                start_new_session=True,
            )
        is_up = False
        try:
            self._write_run_file(process.pid, ports)
            _wait_until(lambda: process.poll() is not None or self.is_ready(ports), READY_SECONDS)
            is_up = process.poll() is None and self.is_ready(ports)
        finally:
            if not is_up:
                process.kill()
                process.wait()
                self._clear_traces(ports)
        if not is_up:
            raise self._launch_error(start_of_log)
        self._process, self.ports, self.is_owned = process, ports, True
        self._is_death_noted = False
        self._backoff.started()
        log.info("embedded_server_started", server=self.name, port=self.port, pid=process.pid)

    def _open_log(self) -> int:
        """Where this launch's lines begin. What the last one said before it died stays."""
        if not self.log_file.exists():
            return 0
        size = self.log_file.stat().st_size
        if size <= MAX_LOG_BYTES:
            return size
        self.log_file.replace(self.log_file.with_suffix(".log.1"))
        return 0

    def _launch_error(self, start_of_log: int) -> EmbeddedServerError:
        lines = self.log_file.read_bytes()[start_of_log:].decode(errors="replace").splitlines()
        said = " ".join(lines[-5:])[-600:] or "it said nothing"
        if "already in use" in said:
            return PortTaken(f"{self.name} found its port taken: {said}")
        if "No space left" in said:
            return EmbeddedServerError(f"No disk space for {self.name} under {self.folder}: free some.")
        return EmbeddedServerError(f"{self.name} did not start. The end of {self.log_file}: {said}")

    def _read_run_file(self) -> RunFile | None:
        try:
            return RunFile.model_validate_json(self.run_file.read_text())
        except (FileNotFoundError, ValidationError):
            return None

    def _write_run_file(self, pid: int, ports: dict[str, int]) -> None:
        run = RunFile(
            pid=pid,
            started=process_start(pid) or "",
            owner_pid=os.getpid(),
            owner_started=process_start(os.getpid()) or "",
            ports=ports,
        )
        draft = self.run_file.with_suffix(".draft")
        draft.write_text(run.model_dump_json())
        draft.replace(self.run_file)

    def _clear_traces(self, ports: Mapping[str, int]) -> None:
        """The run file stays: its ports are tried first next time."""
        for path in self.leftovers(ports):
            path.unlink(missing_ok=True)


class PortTaken(EmbeddedServerError):
    """Another program took the port between our look and the server's start."""


def process_start(pid: int) -> str | None:
    """A token that tells this process from a later one with the same id; None when none lives."""
    if platform.system() != "Linux":
        command = ["ps", "-o", "lstart=", "-p", str(pid)]
        shown = subprocess.run(command, check=False, capture_output=True, text=True)
        return shown.stdout.strip() or None
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name, in parentheses, may hold spaces.
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else fields[18]


def free_ports(names: Sequence[str]) -> dict[str, int]:
    """A free loopback port for each name, all different."""
    sockets = [socket.create_server((LOOPBACK, 0)) for _ in names]
    try:
        return {name: sock.getsockname()[1] for name, sock in zip(names, sockets, strict=True)}
    finally:
        for sock in sockets:
            sock.close()


def is_free(port: int) -> bool:
    try:
        socket.create_server((LOOPBACK, port)).close()
    except OSError:
        return False
    return True


def _end_foreign_process(run: RunFile) -> None:
    """Stop a server that is not our child."""
    for number, patience in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
        with suppress(ProcessLookupError):
            os.kill(run.pid, number)
        if _wait_until(lambda: not run.is_alive, patience):
            return
    raise EmbeddedServerError(f"The old server process {run.pid} can't be stopped: end it yourself.")


def _wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """One process at a time starts servers in a folder."""
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
