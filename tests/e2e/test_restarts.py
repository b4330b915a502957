"""Workers die, stop and hang; no video is lost and none is told about twice."""

import time
from collections.abc import Callable

from service.jobs.queue import JobQueue
from service.jobs.record import State
from service.jobs.store import VideoStore
from tests.e2e.conftest import Workers

Submit = Callable[..., str]
WaitUntil = Callable[..., None]
Events = Callable[[], list[tuple[str, str]]]


def kill_one_at_work(workers: Workers, store: VideoStore, video_ids: list[str], wait_until: WaitUntil) -> None:
    found: list[int] = []
    wait_until(lambda: found.extend(filter(None, [working_pid(store, video_ids)])) or found)
    [process] = [process for process in workers.processes if process.pid == found[0]]
    process.kill()
    process.join()


def working_pid(store: VideoStore, video_ids: list[str]) -> int | None:
    """Of a worker that is in the middle of one of these videos."""
    pids = {worker.name: worker.pid for worker in store.live_workers()}
    for video_id in video_ids:
        record = store.get(video_id)
        if record.state is State.STARTED and record.worker in pids:
            return pids[record.worker]
    return None


def test_twenty_jobs_survive_five_kills_and_are_told_about_once_each(
    workers: Workers, submit: Submit, store: VideoStore, wait_until: WaitUntil, events: Events
) -> None:
    for _ in range(2):
        workers.start(step_seconds=0.02)
    video_ids: list[str] = []
    for kill in range(5):
        video_ids += [submit(f"a red circle {kill} {i}", num_inference_steps=10, num_frames=5) for i in range(4)]
        kill_one_at_work(workers, store, video_ids, wait_until)
        workers.start(step_seconds=0.02)
    wait_until(lambda: all(store.get(video_id).is_terminal for video_id in video_ids))
    assert {store.get(video_id).state for video_id in video_ids} == {State.COMPLETED}, workers.logs()
    assert sorted(events()) == sorted((video_id, "video.completed") for video_id in video_ids)
    assert any(store.get(video_id).attempt > 1 for video_id in video_ids)


def test_sigterm_hands_a_long_job_back_and_the_next_worker_completes_it(
    workers: Workers, submit: Submit, store: VideoStore, queue: JobQueue, wait_until: WaitUntil, events: Events
) -> None:
    first = workers.start(step_seconds=0.5)
    video_id = submit("a red circle", num_inference_steps=40, num_frames=5)
    wait_until(lambda: store.get(video_id).step > 0)
    stopped_at = time.monotonic()
    first.terminate()
    first.join(timeout=30)
    assert first.exitcode == 0, workers.logs()
    assert time.monotonic() - stopped_at < 10
    record = store.get(video_id)
    assert (record.state, record.attempt, queue.num_running()) == (State.QUEUED, 0, 0)
    workers.start()
    wait_until(lambda: store.get(video_id).state is State.COMPLETED)
    assert store.get(video_id).attempt == 1
    assert events() == [(video_id, "video.completed")]


def test_sigterm_in_a_step_that_never_ends_still_hands_the_job_back_within_ten_seconds(
    workers: Workers, submit: Submit, store: VideoStore, wait_until: WaitUntil
) -> None:
    stuck = workers.start(step_seconds=3600)
    video_id = submit("a red circle", num_inference_steps=10, num_frames=5)
    # The stage is told once the first step runs.
    wait_until(lambda: store.get(video_id).stage == "denoise")
    stopped_at = time.monotonic()
    stuck.terminate()
    stuck.join(timeout=30)
    assert stuck.exitcode == 0, workers.logs()
    assert time.monotonic() - stopped_at < 10
    record = store.get(video_id)
    assert (record.state, record.attempt) == (State.QUEUED, 0)


def test_cancelled_video_frees_the_worker_in_the_middle_of_a_run(
    workers: Workers, submit: Submit, store: VideoStore, queue: JobQueue, wait_until: WaitUntil, events: Events
) -> None:
    workers.start(step_seconds=0.2)
    long = submit("a red circle", num_inference_steps=100, num_frames=5)
    wait_until(lambda: store.get(long).step > 0)
    queue.cancel(long)
    short = submit("a blue circle", num_inference_steps=2, num_frames=5)
    wait_until(lambda: store.get(short).state is State.COMPLETED)
    assert store.get(long).state is State.CANCELLED
    assert events() == [(long, "video.failed"), (short, "video.completed")]
