"""CLAIM: whose turn it is, and who is woken."""

import pytest
from redis import Redis

from service.jobs.queue import JobQueue
from service.jobs.record import new_execution_id
from service.jobs.store import VideoStore
from tests.conftest import FINGERPRINT
from tests.service.claims import OTHER_FINGERPRINT, MakeSubmission, claim, lapse


def test_jobs_are_claimed_in_the_order_of_their_requests(queue: JobQueue, submission: MakeSubmission) -> None:
    videos = [queue.submit(submission(f"a ball number {i}")).record for i in range(5)]

    assert [video.queue_position for video in videos] == [0, 1, 2, 3, 4]
    assert [claim(queue).lease.job_id for _ in videos] == [video.job_id for video in videos]
    assert queue.claim(worker="w1", fingerprint=FINGERPRINT, execution_id=new_execution_id()) is None


def test_a_claim_repeated_after_a_lost_reply_gives_the_same_job(queue: JobQueue, submission: MakeSubmission) -> None:
    for i in range(2):
        queue.submit(submission(f"ball {i}"))
    execution_id = new_execution_id()

    first = queue.claim(worker="w1", fingerprint=FINGERPRINT, execution_id=execution_id)
    second = queue.claim(worker="w1", fingerprint=FINGERPRINT, execution_id=execution_id)

    assert first == second
    assert queue.depth() == 1


def test_a_submit_wakes_a_waiting_worker(queue: JobQueue, submission: MakeSubmission) -> None:
    assert not queue.wait_for_work(fingerprint=FINGERPRINT, timeout_seconds=0.05)
    queue.submit(submission())
    assert queue.wait_for_work(fingerprint=FINGERPRINT, timeout_seconds=5)


def test_jobs_of_another_checkpoint_keep_their_places(
    queue: JobQueue, store: VideoStore, submission: MakeSubmission
) -> None:
    others = [submission(f"ball {i}").model_copy(update={"fingerprint": OTHER_FINGERPRINT}) for i in range(3)]
    waiting = [queue.submit(other).record for other in others]
    mine = queue.submit(submission()).record

    assert claim(queue).lease.job_id == mine.job_id

    assert queue.claim(worker="w1", fingerprint=FINGERPRINT, execution_id=new_execution_id()) is None
    assert [store.get(video.id).queue_position for video in waiting] == [0, 1, 2]
    first = queue.claim(worker="w2", fingerprint=OTHER_FINGERPRINT, execution_id=new_execution_id())
    assert first is not None
    assert first.lease.job_id == waiting[0].job_id


def test_many_jobs_without_a_worker_do_not_block_the_others(
    queue: JobQueue, redis: Redis, submission: MakeSubmission
) -> None:
    for i in range(130):
        queue.submit(submission(f"ball {i}").model_copy(update={"fingerprint": OTHER_FINGERPRINT}))
        if i % 20 == 0:
            redis.lpush("rq:queue:standard", f"gone_{i}")
    mine = queue.submit(submission()).record

    assert claim(queue).lease.job_id == mine.job_id

    assert queue.depth() == 130


def test_a_job_wakes_only_workers_of_its_checkpoint(queue: JobQueue, redis: Redis, submission: MakeSubmission) -> None:
    queue.submit(submission())
    claimed = claim(queue)
    assert queue.claim(worker="w1", fingerprint=FINGERPRINT, execution_id=new_execution_id()) is None
    for _ in range(2):
        # First the job comes back after its worker's death, then a new one comes.
        lapse(redis, claimed.lease)
        if not queue.reclaim():
            queue.submit(submission("another"))
        assert not queue.wait_for_work(fingerprint=OTHER_FINGERPRINT, timeout_seconds=0.05)
        assert queue.wait_for_work(fingerprint=FINGERPRINT, timeout_seconds=5)


def test_a_payload_of_another_version_fails_instead_of_blocking_the_queue(
    queue: JobQueue, store: VideoStore, redis: Redis, submission: MakeSubmission
) -> None:
    video = queue.submit(submission()).record
    redis.hset(f"rq:job:{video.job_id}", "payload", '{"schema_version": 99}')

    assert queue.claim(worker="w1", fingerprint=FINGERPRINT, execution_id=new_execution_id()) is None

    error = store.get(video.id).error
    assert error is not None
    assert error.code == "incompatible_job"


@pytest.mark.parametrize("field", ["payload", "origin", "tenant", "cost", "shape", "submitted_at", "number_of_retries"])
@pytest.mark.parametrize("damage", [None, "\xff\x00", "nan"])
def test_a_damaged_job_does_not_hold_up_the_others(
    queue: JobQueue, redis: Redis, submission: MakeSubmission, field: str, damage: str | None
) -> None:
    broken = queue.submit(submission("broken")).record
    whole = queue.submit(submission("whole")).record
    if damage is None:
        redis.hdel(f"rq:job:{broken.job_id}", field)
    else:
        redis.hset(f"rq:job:{broken.job_id}", field, damage)

    held = []
    while len(held) < 2:
        claimed = queue.claim(worker="w1", fingerprint=FINGERPRINT, execution_id=new_execution_id(), shapes=["x"])
        held += [] if claimed is None else [claimed.lease.job_id]
        if redis.hexists(f"wanserve:video:{broken.id}", "state"):
            held.append(broken.job_id)

    assert set(held) == {broken.job_id, whole.job_id}
