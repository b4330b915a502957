"""The audit log: a JSON line for every call that changed something or tried to. Knows no HTTP.

Append-only, whole lines in one write, so that several processes may share the file. It may be moved away at any time:
the next line begins a new one. Prompts stay out of it unless settings say so; of a blocked one there is the hash.
"""

import errno
import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from typing import Any, Literal

from service.errors import ModerationBlocked
from service.logs import get_logger

MAX_WAITING = 10_000
"""Lines, while the disk does not take them; more are lost."""

CLOSE_SECONDS = 5.0
"""What is then not written is lost."""

GATHER_SECONDS = 0.02
"""From the first line that waits to the write: a thread woken for each line would hold up the request that wrote it."""

LARGEST_BATCH = 256
"""Lines in one write."""

log = get_logger(__name__)


@dataclass(slots=True)
class AuditEntry:
    """One call. Begun when it comes in; whoever learns more about it fills that in."""

    action: str = ""
    """create_video, cancel_video, delete_endpoint …"""

    request_id: str | None = None
    tenant: str | None = None
    """None: who asked was never known."""

    key_id: str | None = None
    """None: no key was needed, or none was right."""

    targets: dict[str, str] = field(default_factory=dict)
    """Ids of what it was about: video_id, endpoint_id …"""

    status: int | None = None
    """Of the HTTP reply."""

    code: str | None = None
    """Of the error; None where it was done."""

    prompts: dict[str, str] = field(default_factory=dict, repr=False)
    """prompt and negative_prompt."""


def audit_line(entry: AuditEntry, *, at: datetime, shows_prompts: bool = False) -> str:
    """The entry as one line of JSON, ended. `at`: aware."""
    shown: dict[str, Any] = {
        "at": at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "action": entry.action,
        "tenant": entry.tenant,
        "key_id": entry.key_id,
        "outcome": _outcome(entry),
        "status": entry.status,
        "code": entry.code,
        "request_id": entry.request_id,
        **entry.targets,
    }
    if entry.code == ModerationBlocked.code:
        hashes = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in entry.prompts.items() if text}
        shown |= {f"{name}_sha256": digest for name, digest in hashes.items()}
    if shows_prompts:
        shown |= entry.prompts
    return json.dumps(shown, ensure_ascii=False) + "\n"


def _outcome(entry: AuditEntry) -> Literal["done", "refused", "failed"]:
    if entry.code is None:
        return "done"
    return "failed" if (entry.status or 0) >= 500 else "refused"


class AuditFile:
    """Opened at the first line, and again where the path leads to another file or none. Used from one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._is_torn = False

    def append(self, lines: Sequence[str]) -> int:
        """One write. How many lines were taken whole: fewer than all on a full disk. Raises OSError for none."""
        descriptor = self._current()
        # A full disk may have taken the first half of a line before.
        mending = b"\n" if self._is_torn else b""
        content = mending + "".join(lines).encode()
        num_bytes = os.write(descriptor, content)
        if num_bytes:
            self._is_torn = content[num_bytes - 1 : num_bytes] != b"\n"
        num_taken = content[len(mending) : num_bytes].count(b"\n")
        if lines and not num_taken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return num_taken

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _current(self) -> int:
        """The file that the path leads to now."""
        if self._descriptor is not None and not self._is_at_path(self._descriptor):
            self.close()
        if self._descriptor is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._is_torn = False
        return self._descriptor

    def _is_at_path(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self._path.stat())
        except FileNotFoundError:
            return False


class AuditLog:
    """Writes on a thread of its own: a disk that hangs or is full neither delays nor fails a request."""

    def __init__(
        self,
        file: AuditFile,
        *,
        shows_prompts: bool,
        on_loss: Callable[[], object] = lambda: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._file = file
        self._shows_prompts = shows_prompts
        self._on_loss = on_loss
        self._clock = clock
        self._waiting: deque[str] = deque()
        self._has_waiting = Event()
        self._is_closing = Event()
        self._is_losing = False
        self._thread = Thread(target=self._run, name="audit", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, for CLOSE_SECONDS at most."""
        self._is_closing.set()
        self._has_waiting.set()
        self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive():
            log.warning("audit_entries_lost", num_lost=len(self._waiting))

    def write(self, entry: AuditEntry) -> None:
        """Never waits and never raises."""
        line = audit_line(entry, at=self._clock(), shows_prompts=self._shows_prompts)
        if len(self._waiting) >= MAX_WAITING:
            self._lose("more entries wait than are kept")
            return
        self._waiting.append(line)
        if not self._has_waiting.is_set():
            self._has_waiting.set()

    def _run(self) -> None:
        while self._waiting or not self._is_closing.is_set():
            self._has_waiting.wait()
            self._is_closing.wait(GATHER_SECONDS)
            self._has_waiting.clear()
            while self._waiting:
                self._append(min(len(self._waiting), LARGEST_BATCH))
        self._file.close()

    def _append(self, num_lines: int) -> None:
        """The oldest lines, which count as waiting until the disk has answered."""
        lines = [self._waiting[place] for place in range(num_lines)]
        try:
            num_taken, reason = self._file.append(lines), os.strerror(errno.ENOSPC)
        except OSError as e:
            num_taken, reason = 0, str(e)
        for _ in lines:
            self._waiting.popleft()
        if num_taken == num_lines:
            self._is_losing = False
        for _ in range(num_lines - num_taken):
            self._lose(reason)

    def _lose(self, reason: str) -> None:
        """Said once, until lines are written again."""
        self._on_loss()
        if not self._is_losing:
            self._is_losing = True
            log.error("audit_entries_lost", reason=reason)
