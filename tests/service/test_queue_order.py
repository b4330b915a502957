"""Whose turn it is: tenants' fair shares, priorities, shapes that meet, and operators who pause and drain."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from redis import Redis

from service.errors import TenantQueueFull
from service.jobs.execution import Claim, Outcome
from service.jobs.operations import Operations
from service.jobs.queue import JobQueue
from service.jobs.record import Priority, VideoRecord, new_execution_id
from service.jobs.store import VideoStore
from service.jobs.submission import SubmitKind
from tests.conftest import FINGERPRINT
from tests.service.claims import MakeSubmission, claim

Submit = Callable[..., VideoRecord]


@pytest.fixture
def submit(queue: JobQueue, submission: MakeSubmission) -> Submit:
    """submit("a prompt", num_frames=5, tenant="b", priority="bulk") queues a video."""

    def make(prompt: str, *, num_frames: int = 17, **fields: object) -> VideoRecord:
        asked = submission(prompt, num_frames=num_frames)
        return queue.submit(asked.model_copy(update={"expected_seconds": 3.0, **fields})).record

    return make


def claims(queue: JobQueue, num: int) -> list[Claim]:
    return [claim(queue) for _ in range(num)]


def prompts(found: list[Claim]) -> list[str]:
    return [claimed.payload.request.prompt for claimed in found]


def test_a_flood_of_one_tenant_hardly_delays_another(queue: JobQueue, submit: Submit) -> None:
    for i in range(300):
        submit(f"flood {i}", tenant="a")
    for i in range(10):
        submit(f"few {i}", tenant="b")

    first = prompts(claims(queue, 30))

    assert sum(prompt.startswith("few") for prompt in first) == 10


def test_a_tenant_of_twice_the_weight_gets_twice_the_gpu(queue: JobQueue, submit: Submit) -> None:
    for i in range(60):
        submit(f"light {i}", tenant="a", weight=1.0)
        submit(f"heavy {i}", tenant="b", weight=2.0)

    first = prompts(claims(queue, 60))

    assert 36 <= sum(prompt.startswith("heavy") for prompt in first) <= 44


def test_long_jobs_are_charged_for_their_length(queue: JobQueue, submit: Submit) -> None:
    for i in range(40):
        submit(f"short {i}", tenant="a", expected_seconds=1.0)
        submit(f"long {i}", tenant="b", expected_seconds=4.0)

    first = prompts(claims(queue, 30))

    assert 22 <= sum(prompt.startswith("short") for prompt in first) <= 26


def test_the_jobs_of_one_tenant_keep_their_order(queue: JobQueue, submit: Submit) -> None:
    for i in range(20):
        submit(f"{i:02}", tenant="a")
        submit(f"other {i}", tenant="b")

    own = [prompt for prompt in prompts(claims(queue, 40)) if not prompt.startswith("other")]

    assert own == sorted(own)


def test_an_interactive_job_goes_before_all_that_waits(queue: JobQueue, submit: Submit) -> None:
    for i in range(50):
        submit(f"bulk {i}", priority="bulk")
        submit(f"standard {i}")
    claims(queue, 10)

    urgent = submit("now", priority="interactive")

    assert urgent.queue_position == 0
    assert prompts([claim(queue)]) == ["now"]


def test_no_priority_starves(queue: JobQueue, submit: Submit) -> None:
    priorities: tuple[Priority, ...] = ("interactive", "standard", "bulk")
    for i in range(100):
        for priority in priorities:
            submit(f"{priority} {i}", priority=priority)

    first = prompts(claims(queue, 84))

    shares = [sum(prompt.startswith(priority) for prompt in first) for priority in priorities]
    assert shares == pytest.approx([64, 16, 4], abs=2)


def test_a_priority_that_was_idle_has_nothing_saved_up(queue: JobQueue, submit: Submit) -> None:
    for i in range(40):
        submit(f"standard {i}")
    claims(queue, 30)
    for i in range(10):
        submit(f"bulk {i}", priority="bulk")

    assert sum(prompt.startswith("bulk") for prompt in prompts(claims(queue, 10))) <= 3


def test_rqs_list_stays_short(queue: JobQueue, redis: Redis, submit: Submit) -> None:
    for i in range(50):
        submit(f"ball {i}")
    for _ in range(10):
        claim(queue)
        assert redis.llen("rq:queue:standard") == 4

    assert queue.depth() == 40


def test_a_welcome_shape_goes_first_among_the_next_few(queue: JobQueue, submit: Submit) -> None:
    submit("long 1")
    submit("long 2")
    submit("short", num_frames=5)

    claimed = queue.claim(
        worker="w1", fingerprint=FINGERPRINT, execution_id=new_execution_id(), shapes=["64x64x5", "64x64x9"]
    )

    assert claimed is not None
    assert claimed.payload.request.prompt == "short"


def test_nobody_is_passed_over_for_ever(queue: JobQueue, submit: Submit) -> None:
    submit("long")
    for i in range(20):
        submit(f"short {i}", num_frames=5)

    order = []
    for _ in range(8):
        claimed = queue.claim(worker="w1", fingerprint=FINGERPRINT, execution_id=new_execution_id(), shapes=["64x64x5"])
        assert claimed is not None
        order.append(claimed.payload.request.prompt)

    assert order.index("long") == 4


def test_a_twin_in_a_hurry_takes_the_job_along(
    queue: JobQueue, store: VideoStore, redis: Redis, submit: Submit
) -> None:
    for i in range(10):
        submit(f"standard {i}")
    leader = submit("the same", priority="bulk")

    follower = submit("the same", priority="interactive")

    assert follower.job_id == leader.job_id
    assert (store.get(leader.id).queue_position, store.get(follower.id).queue_position) == (0, 0)
    assert redis.hget(f"rq:job:{leader.job_id}", "origin") == "interactive"
    assert prompts([claim(queue)]) == ["the same"]


def test_a_job_that_comes_back_goes_first(queue: JobQueue, submit: Submit) -> None:
    for i in range(10):
        submit(f"ball {i}")
    first = claim(queue)
    claims(queue, 2)

    queue.release(first.lease)

    assert claim(queue).lease.job_id == first.lease.job_id


def test_a_position_counts_who_goes_before(store: VideoStore, submit: Submit) -> None:
    videos = [submit(f"ball {i}") for i in range(12)]
    for i in range(2):
        submit(f"now {i}", priority="interactive")

    seen = [store.get(video.id) for video in videos]

    assert [video.queue_position for video in seen] == list(range(2, 14))
    assert [video.seconds_ahead for video in seen] == pytest.approx([3.0 * place for place in range(2, 14)])


def test_a_tenants_limit_leaves_the_others_alone(queue: JobQueue, submit: Submit) -> None:
    for i in range(3):
        submit(f"ball {i}", tenant="a", max_queued_by_tenant=3)

    with pytest.raises(TenantQueueFull) as error:
        submit("one too many", tenant="a", max_queued_by_tenant=3)
    submit("another's", tenant="b", max_queued_by_tenant=3)

    assert (error.value.http_status, error.value.retry_after_seconds) == (429, 3)
    claim(queue)
    submit("room again", tenant="a", max_queued_by_tenant=3)


def test_tenants_share_results_only_where_they_may(queue: JobQueue, redis: Redis, submission: MakeSubmission) -> None:
    def kinds(scope: str) -> list[SubmitKind]:
        redis.flushall()
        shared = JobQueue(redis, queue._settings.with_changes(cache_scope=scope))
        return [shared.submit(submission().model_copy(update={"tenant": tenant})).kind for tenant in "ab"]

    assert kinds("tenant") == [SubmitKind.QUEUED, SubmitKind.QUEUED]
    assert kinds("global") == [SubmitKind.QUEUED, SubmitKind.JOINED]


def test_a_list_that_rqs_tools_emptied_does_not_hold_up_the_backlog(
    queue: JobQueue, redis: Redis, submit: Submit
) -> None:
    for i in range(10):
        submit(f"ball {i}")
    redis.delete("rq:queue:standard")

    found = claims(queue, 6)

    assert prompts(found) == [f"ball {i}" for i in range(4, 10)]
    assert queue.depth() == 0


def test_a_paused_priority_waits_and_the_others_go_on(queue: JobQueue, redis: Redis, submit: Submit) -> None:
    operations = Operations(redis)
    operations.pause("standard")
    submit("held")
    submit("free", priority="bulk")

    assert operations.paused() == ("standard",)
    assert prompts([claim(queue)]) == ["free"]
    assert queue.claim(worker="w1", fingerprint=FINGERPRINT, execution_id=new_execution_id()) is None

    operations.resume("standard")
    assert prompts([claim(queue)]) == ["held"]


def test_a_drained_worker_gets_nothing_more(queue: JobQueue, redis: Redis, submit: Submit) -> None:
    operations = Operations(redis)
    operations.drain("w1")
    submit("ball")

    assert queue.claim(worker="w1", fingerprint=FINGERPRINT, execution_id=new_execution_id()) is None
    assert operations.draining() == ("w1",)

    operations.undrain("w1")
    claim(queue, "w1")


def test_leaving_no_one_behind_the_queue_forgets_its_lanes(queue: JobQueue, redis: Redis, submit: Submit) -> None:
    for tenant in "ab":
        submit("ball", tenant=tenant)
        submit("bulk ball", tenant=tenant, priority="bulk")
    running = claims(queue, 4)

    assert queue.claim(worker="w1", fingerprint=FINGERPRINT, execution_id=new_execution_id()) is None

    kinds = ("waiting", "backlog", "fair", "shares", "lanes", "work")
    assert [key for kind in kinds for key in redis.keys(f"wanserve:{kind}*")] == []
    assert sorted(redis.keys("wanserve:tenant:*")) == ["wanserve:tenant:a:active", "wanserve:tenant:b:active"]
    for claimed in running:
        queue.finish(claimed.lease, Outcome.failed("broken", "It broke."))
    assert redis.keys("wanserve:tenant:*") == []


def test_neighbours_in_the_queue_stay_neighbours_through_the_backlog(queue: JobQueue, submit: Submit) -> None:
    videos = [submit(f"{i:03}") for i in range(30)]

    order = [claimed.lease.job_id for claimed in claims(queue, 30)]

    places = [order.index(video.job_id) for video in videos]
    assert all(after == before + 1 for before, after in pairwise(places))


def test_a_busy_worker_leaves_a_long_job_to_one_that_soon_is_free(queue: JobQueue, submit: Submit) -> None:
    for i in range(3):
        submit(f"running {i}")
    claims(queue, 3)
    submit("long", expected_seconds=100.0)
    submit("short", expected_seconds=10.0)

    def taken(busy_seconds: float) -> str | None:
        execution_id = new_execution_id()
        claimed = queue.claim(
            worker="w1", fingerprint=FINGERPRINT, execution_id=execution_id, busy_seconds=busy_seconds
        )
        return claimed and claimed.payload.request.prompt

    # One of three ends every 2 s: a quarter of the short job's length is longer.
    assert taken(busy_seconds=6.0) is None
    assert taken(busy_seconds=9.0) == "short"
    assert taken(busy_seconds=9.0) is None
    assert queue.depth() == 1
    assert taken(busy_seconds=0.0) == "long"


def test_a_job_left_waiting_keeps_the_turns_of_the_priorities(queue: JobQueue, redis: Redis, submit: Submit) -> None:
    submit("running")
    claim(queue)
    submit("long", expected_seconds=100.0)

    assert queue.claim(worker="w1", fingerprint=FINGERPRINT, execution_id=new_execution_id(), busy_seconds=1.0) is None
    assert redis.exists(f"wanserve:shares:{FINGERPRINT}", f"wanserve:wake:{FINGERPRINT}") == 2
