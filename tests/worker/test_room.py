"""A full disk is seen before a job is claimed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from structlog.testing import capture_logs

from model.engine import Engine
from service.jobs.queue import JobQueue
from worker.inbox import Inbox
from worker.loop import Worker
from worker.room import Room, largest_file_bytes
from worker.runner import JobRunner
from worker.shutdown import Shutdown

MORE_THAN_ANY_DISK = 2**70


def test_no_job_is_claimed_without_room_for_its_file(
    submit: Callable[..., str], inbox: Inbox, runner: JobRunner, queue: JobQueue, shutdown: Shutdown, tmp_path: Path
) -> None:
    submit()
    unused = cast(Any, None)
    worker = Worker(inbox, runner, unused, unused, Room(tmp_path, need_bytes=MORE_THAN_ANY_DISK), shutdown=shutdown)
    shutdown.request()  # so that it does not wait for room
    assert worker._next_job() is None
    assert queue.depth() == 1
    roomy = Worker(inbox, runner, unused, unused, Room(tmp_path, need_bytes=1), shutdown=shutdown)
    assert roomy._next_job() is not None


def test_missing_room_is_logged_once(tmp_path: Path) -> None:
    room = Room(tmp_path, need_bytes=MORE_THAN_ANY_DISK)
    with capture_logs() as logs:
        assert [room.is_enough() for _ in range(3)] == [False, False, False]
    assert [line["event"] for line in logs] == ["disk_too_full_for_jobs"]


def test_need_covers_the_largest_video_raw(engine: Engine) -> None:
    width, height = engine.card.native_sizes[0]
    raw_bytes = width * height * engine.card.num_frames.max * 3 // 2
    assert raw_bytes < largest_file_bytes(engine.card) < 2**30
