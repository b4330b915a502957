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


def look_for(watch: StallWatch, held: HeldJob | None, seconds: int) -> None:
    for _ in range(seconds):
        watch.look(held, seconds=1)


def test_job_without_a_move_is_stalled_after_the_limit(held: HeldJob) -> None:
    watch = StallWatch(limit_seconds=10)
    look_for(watch, held, 10)
    assert not watch.is_stalled
    look_for(watch, held, 1)
    assert watch.is_stalled


def test_every_move_starts_the_count_anew(held: HeldJob) -> None:
    watch = StallWatch(limit_seconds=10)
    look_for(watch, held, 12)
    held.touch()
    look_for(watch, held, 5)
    assert not watch.is_stalled


def test_idle_worker_is_never_stalled() -> None:
    watch = StallWatch(limit_seconds=10)
    look_for(watch, None, 100)
    assert not watch.is_stalled


def test_paused_process_is_not_stalled_however_long_it_slept(held: HeldJob) -> None:
    # The watch counts its own looks: hours of SIGSTOP are one look.
    watch = StallWatch(limit_seconds=10)
    look_for(watch, held, 2)
    assert watch.still_seconds == 1
