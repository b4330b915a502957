"""The audit log: every line whole, in the file that the path leads to now, and never in a request's way."""

import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service import audit
from service.audit import AuditEntry, AuditFile, AuditLog, audit_line

AT = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
WaitUntil = Callable[..., None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "audit.jsonl"


def entries(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_says_who_did_what_to_what_and_how_it_ended() -> None:
    entry = AuditEntry("create_video", "req_1", "acme", "0123456789abcdef", {"video_id": "video_1"}, status=200)

    line = audit_line(entry, at=AT)

    assert line.endswith("\n")
    assert json.loads(line) == {
        "at": "2026-01-02T03:04:05.678Z",
        "action": "create_video",
        "tenant": "acme",
        "key_id": "0123456789abcdef",
        "outcome": "done",
        "status": 200,
        "code": None,
        "request_id": "req_1",
        "video_id": "video_1",
    }


@pytest.mark.parametrize(
    ("status", "code", "outcome"),
    [(200, None, "done"), (404, "video_not_found", "refused"), (503, "queue_full", "failed")],
)
def test_the_outcome_tells_refusals_from_failures(status: int, code: str | None, outcome: str) -> None:
    assert json.loads(audit_line(AuditEntry(status=status, code=code), at=AT))["outcome"] == outcome


def test_prompts_stay_out_unless_asked_for_and_blocked_ones_leave_their_hash() -> None:
    prompts = {"prompt": "line\nbreak", "negative_prompt": ""}
    blocked = AuditEntry("create_video", status=400, code="moderation_blocked", prompts=prompts)
    done = AuditEntry("create_video", status=200, prompts=prompts)

    shown = json.loads(audit_line(blocked, at=AT))
    assert len(shown["prompt_sha256"]) == 64
    assert "negative_prompt_sha256" not in shown
    assert "break" not in audit_line(blocked, at=AT) + audit_line(done, at=AT)
    assert json.loads(audit_line(done, at=AT, shows_prompts=True))["prompt"] == "line\nbreak"
    assert audit_line(done, at=AT, shows_prompts=True).count("\n") == 1


def test_a_file_that_was_moved_away_is_begun_anew(path: Path) -> None:
    file = AuditFile(path)
    file.append(["1\n"])
    path.rename(path.with_suffix(".1"))
    file.append(["2\n"])
    path.unlink()
    path.write_text("")
    file.append(["3\n"])
    file.close()

    assert path.with_suffix(".1").read_text() == "1\n"
    assert path.read_text() == "3\n"
    assert path.stat().st_nlink == 1


def test_only_its_owner_reads_it(path: Path) -> None:
    file = AuditFile(path)
    file.append(["1\n"])
    file.close()

    assert path.stat().st_mode & 0o777 == 0o600


def test_lines_of_many_writers_stay_whole(path: Path) -> None:
    def write(number: int) -> None:
        file = AuditFile(path)
        for _ in range(200):
            file.append([json.dumps({"writer": number, "padding": "x" * 5000}) + "\n"] * 2)
        file.close()

    writers = [threading.Thread(target=write, args=[number]) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    assert sorted({str(entry["writer"]) for entry in entries(path)}) == ["0", "1", "2", "3"]
    assert len(entries(path)) == 1600


class FullDisk(AuditFile):
    """Takes nothing until it is told to."""

    is_full = True

    def append(self, lines: Sequence[str]) -> int:
        if self.is_full:
            raise OSError(28, "No space left on device")
        return super().append(lines)


@pytest.fixture
def lost() -> list[None]:
    return []


@pytest.fixture
def full_disk(path: Path) -> FullDisk:
    return FullDisk(path)


@pytest.fixture
def audit_log(full_disk: FullDisk, lost: list[None]) -> Iterator[AuditLog]:
    opened = AuditLog(full_disk, shows_prompts=False, on_loss=lambda: lost.append(None), clock=lambda: AT)
    opened.start()
    yield opened
    opened.stop()


def test_a_full_disk_fails_nothing_is_said_once_and_is_left_behind(
    audit_log: AuditLog, full_disk: FullDisk, path: Path, lost: list[None], wait_until: WaitUntil
) -> None:
    with capture_logs() as logs:
        for _ in range(3):
            audit_log.write(AuditEntry("create_video"))
        wait_until(lambda: len(lost) == 3)
        full_disk.is_full = False
        audit_log.write(AuditEntry("delete_video"))
        wait_until(path.exists)

    assert [(each["event"], each["log_level"]) for each in logs] == [("audit_entries_lost", "error")]
    assert "No space left" in logs[0]["reason"]


def test_a_disk_that_hangs_delays_nobody(path: Path, lost: list[None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "MAX_WAITING", 2)
    answers = threading.Event()

    class HangingDisk(AuditFile):
        def append(self, lines: Sequence[str]) -> int:
            answers.wait()
            return super().append(lines)

    hanging = AuditLog(HangingDisk(path), shows_prompts=False, on_loss=lambda: lost.append(None))
    hanging.start()
    for _ in range(10):
        hanging.write(AuditEntry("create_video"))
    assert len(lost) == 8
    answers.set()
    hanging.stop()

    assert len(entries(path)) == 10 - len(lost)


def test_a_disk_that_takes_half_a_line_loses_it_and_goes_on_with_whole_ones(
    path: Path, lost: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = AuditFile(path)
    write = os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda descriptor, content: write(descriptor, content[:6]))
        assert file.append(["111\n", "222\n", "333\n"]) == 1
        with pytest.raises(OSError, match="No space left"):
            file.append(["a long line\n"])
    assert file.append(["444\n"]) == 1
    file.close()

    assert path.read_text() == "111\n22\na lon\n444\n"


def test_what_waits_is_written_before_it_stops(path: Path) -> None:
    log = AuditLog(AuditFile(path), shows_prompts=False)
    log.start()
    for number in range(500):
        log.write(AuditEntry("create_video", request_id=str(number)))
    log.stop()

    assert [entry["request_id"] for entry in entries(path)] == [str(number) for number in range(500)]
