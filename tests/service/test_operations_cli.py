"""`wanserve queue`, `jobs`, `workers`, as an operator types them."""

import io
import os
import subprocess
import sys

import pytest
from redis import Redis

from service.jobs.queue import JobQueue
from service.jobs.record import WorkerInfo
from service.jobs.store import VideoStore
from service.provenance.recorder import Recorder
from service.settings import Settings
from service.storage import Storage
from tests.service.claims import MakeSubmission, claim, completed


def run(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service.cli", *arguments]
    environment = os.environ | settings.to_environment()
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_an_operator_pauses_looks_and_resumes(settings: Settings, queue: JobQueue, submission: MakeSubmission) -> None:
    queue.submit(submission().model_copy(update={"expected_seconds": 42.0}))
    assert run(settings, "queue", "pause", "standard").stdout == "standard is paused: its jobs wait.\n"

    shown = run(settings, "queue", "show").stdout.splitlines()

    assert [line.split()[0] for line in shown[1:]] == ["interactive", "standard", "bulk"]
    assert shown[2].split()[1:3] == ["1", "42"]
    assert shown[2].endswith("paused")
    assert run(settings, "queue", "resume", "standard").stdout == "standard is open.\n"
    claim(queue)


def test_an_operator_shows_requeues_and_fails_a_job(
    settings: Settings, queue: JobQueue, store: VideoStore, submission: MakeSubmission
) -> None:
    video = queue.submit(submission()).record
    claim(queue)

    shown = run(settings, "jobs", "show", video.job_id).stdout
    assert ["status", "started"] in [line.split() for line in shown.splitlines()]
    assert run(settings, "jobs", "requeue", video.job_id).returncode == 0
    assert queue.depth() == 1
    assert run(settings, "jobs", "fail", video.job_id, "--reason", "It hangs.").returncode == 0

    error = store.get(video.id).error
    assert error is not None
    assert error.message == "It hangs."


def test_an_operator_drains_a_worker(settings: Settings, store: VideoStore) -> None:
    info = WorkerInfo(name="w1", model="m", device="cpu", started_at=1.0, host="h", pid=1)
    store.report_alive(info, ttl_seconds=60)

    assert run(settings, "workers", "drain", "w1").returncode == 0

    assert run(settings, "workers", "list").stdout.splitlines()[1].split() == ["w1", "m", "cpu", "draining"]
    run(settings, "workers", "undrain", "w1")
    assert run(settings, "workers", "list").stdout.splitlines()[1].split()[-1] == "open"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("jobs", "requeue", "job_x"), 1, "There is no job job_x."),
        (("jobs", "fail", "job_x"), 2, "--reason"),
        (("queue", "pause", "urgent"), 2, "interactive, standard, bulk"),
    ],
)
def test_what_can_not_be_done_says_why(settings: Settings, arguments: tuple[str, ...], code: int, said: str) -> None:
    answer = run(settings, *arguments)

    assert answer.returncode == code
    assert said in answer.stderr.replace("'", "")


def test_an_operator_gets_the_finished_videos_of_a_lost_redis_back(
    settings: Settings,
    queue: JobQueue,
    store: VideoStore,
    storage: Storage,
    redis: Redis,
    submission: MakeSubmission,
) -> None:
    video = queue.submit(submission()).record
    claimed = claim(queue)
    outcome = completed(claimed)
    assert outcome.asset is not None
    storage.put_stream(outcome.asset.video.key, io.BytesIO(b"pictures"), content_type="video/mp4")
    queue.finish(claimed.lease, outcome)
    Recorder(redis, store, storage, settings).record()
    redis.flushdb()

    told = run(settings, "catalogue", "rebuild")

    assert told.stdout.startswith("1 videos are back, 0 were there, 0 are over"), told.stderr
    assert store.get(video.id).asset == outcome.asset
