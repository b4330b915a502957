"""A device call that never returns: the job goes to another worker, and the hung process ends by itself."""

from collections.abc import Callable

import pytest

from service.jobs.record import State
from service.jobs.store import VideoStore
from service.settings import Settings
from tests.e2e.conftest import Workers
from worker.heartbeat import EXIT_BROKEN

Submit = Callable[..., str]
WaitUntil = Callable[..., None]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.with_changes(stall_seconds=8.0)


def test_job_of_a_hung_worker_is_completed_by_another(
    workers: Workers, submit: Submit, store: VideoStore, wait_until: WaitUntil
) -> None:
    hung = workers.start(step_seconds=3600)
    video_id = submit("a red circle", num_inference_steps=10, num_frames=5)
    wait_until(lambda: store.get(video_id).state is State.STARTED)
    workers.start()
    wait_until(lambda: store.get(video_id).state is State.COMPLETED)
    hung.join(timeout=120)
    assert hung.exitcode == EXIT_BROKEN, workers.logs()
