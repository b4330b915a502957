from collections.abc import Sequence

import pytest

from model.params import GenerationParams
from tests.worker.claims import claim_of
from worker.held import HeldJob
from worker.stall import StallWatch


@pytest.fixture
def held() -> HeldJob:
    params = GenerationParams(
        prompt="x",
        width=64,
        height=64,
        num_frames=1,
        fps=8,
        num_inference_steps=1,
        guidance_scale=1,
        guidance_scale_2=1,
        flow_shift=3,
        seed=0,
    )
    return HeldJob(claim_of(params, fingerprint="f"))


def look_for(watch: StallWatch, jobs: Sequence[HeldJob], seconds: int) -> None:
    for _ in range(seconds):
        watch.look(jobs, seconds=1)


def test_job_without_a_move_is_stalled_after_the_limit(held: HeldJob) -> None:
    watch = StallWatch(limit_seconds=10)
    look_for(watch, [held], 10)
    assert not watch.is_stalled
    look_for(watch, [held], 1)
    assert watch.is_stalled


def test_every_move_starts_the_count_anew(held: HeldJob) -> None:
    watch = StallWatch(limit_seconds=10)
    look_for(watch, [held], 12)
    held.touch()
    look_for(watch, [held], 5)
    assert not watch.is_stalled


def test_idle_worker_is_never_stalled() -> None:
    watch = StallWatch(limit_seconds=10)
    look_for(watch, [], 100)
    assert not watch.is_stalled


def test_paused_process_is_not_stalled_however_long_it_slept(held: HeldJob) -> None:
    # The watch counts its own looks: hours of SIGSTOP are one look.
    watch = StallWatch(limit_seconds=10)
    look_for(watch, [held], 2)
    assert watch.still_seconds == 1


def test_one_of_several_jobs_that_moves_is_enough(held: HeldJob) -> None:
    watch = StallWatch(limit_seconds=10)
    other = HeldJob(held.claim)
    for _ in range(30):
        held.touch()
        look_for(watch, [held, other], 1)
    assert not watch.is_stalled


def test_a_job_that_waits_for_the_store_does_not_hide_a_hung_engine(held: HeldJob) -> None:
    watch = StallWatch(limit_seconds=10)
    uploading = HeldJob(held.claim)
    uploading.enter("upload", percent=98)
    for _ in range(30):
        uploading.touch()
        look_for(watch, [held, uploading], 1)
    assert watch.is_stalled


def test_a_busy_engine_does_not_hide_a_hung_upload(held: HeldJob) -> None:
    watch = StallWatch(limit_seconds=10)
    uploading = HeldJob(held.claim)
    uploading.enter("upload", percent=98)
    for _ in range(30):
        held.touch()
        look_for(watch, [held, uploading], 1)
    assert watch.is_stalled
