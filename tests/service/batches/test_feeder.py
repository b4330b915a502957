"""Batches from their creation to their files: what they submit, when they stop, and how they end."""

import io
from collections.abc import Callable

import pytest
from redis import Redis

from service.batches import feeder as feeder_module
from service.batches.batch import Batch, BatchStatus
from service.batches.lines import BatchRequest, video_id_of
from service.errors import Conflict, ModerationBlocked, NoModel, ObjectNotFound, QueueFull, TenantQueueFull
from tests.service.batches.conftest import MAX_AT_WORK, Ended, Yard, line

LeftBy = Callable[[Batch], Ended]


def test_every_request_becomes_a_video_and_a_line_of_the_output(yard: Yard, left_by: LeftBy) -> None:
    names = [f"request {number}" for number in range(7)]
    batch = yard.run_to_end(yard.create(*map(line, names)))

    assert batch.status is BatchStatus.COMPLETED
    assert (batch.total, batch.completed, batch.failed) == (7, 7, 0)
    assert left_by(batch) == Ended(output=names, errors=[])
    first = yard.lines_of(batch.output_file_id)[0]
    assert first["response"]["status_code"] == 200
    assert first["response"]["body"] == {"id": video_id_of(batch.id, 1), "status": "completed"}
    stamps = [batch.created_at, batch.in_progress_at, batch.finalizing_at, batch.completed_at]
    assert None not in stamps
    assert stamps == sorted(stamps)  # type: ignore[type-var]


def test_no_more_requests_wait_at_once_than_are_allowed(yard: Yard) -> None:
    yard.create(*(line(str(number)) for number in range(9)))
    for _ in range(4):
        yard.feeder.feed()
        assert yard.queue.depth() == MAX_AT_WORK

    assert yard.work() == ["0", "1"]
    yard.feeder.feed()
    assert yard.work() == ["2", "3"]


def test_batches_take_turns(yard: Yard) -> None:
    for name in ("a", "b"):
        yard.create(*(line(f"{name}{number}") for number in range(3)))

    yard.feeder.feed()

    assert sorted(yard.work()) == ["a0", "a1", "b0", "b1"]


def test_when_a_round_has_no_time_left_the_next_begins_with_those_that_waited(yard: Yard) -> None:
    ticks = iter(range(0, 10_000, 30))
    feeder = yard.feeder_of(yard.submit, clock=lambda: float(next(ticks)))
    ids = [yard.create(line(name)) for name in ("a", "b")]

    feeder.feed()
    assert [yard.get(each).status.value for each in ids] == ["in_progress", "validating"]
    feeder.feed()
    assert [yard.get(each).status.value for each in ids] == ["in_progress", "in_progress"]


def test_a_record_that_can_not_be_read_costs_no_other_batch_its_turn(yard: Yard, redis: Redis) -> None:
    newer, damaged, sound = (yard.create(line("a", body={"prompt": name})) for name in ("newer", "damaged", "sound"))
    redis.hset(f"wanserve:batch:{newer}", "schema_version", 2)
    redis.hset(f"wanserve:batch:{damaged}", "status", "lost")

    assert yard.run_to_end(sound).status is BatchStatus.COMPLETED


def test_a_bad_line_is_an_error_of_its_own_and_stops_no_other(yard: Yard, left_by: LeftBy) -> None:
    batch = yard.run_to_end(
        yard.create(
            line("good"),
            "{",
            line("elsewhere", url="/v1/images"),
            line("good", body={"prompt": "another"}),
            line("no prompt", body={}),
            line("too many", body={"prompt": "p", "num_frames": 0}),
            "x" * 1_100_000,
            line("the last"),
        )
    )

    assert batch.status is BatchStatus.COMPLETED
    assert (batch.total, batch.completed, batch.failed) == (8, 2, 6)
    assert left_by(batch) == Ended(
        output=["good", "the last"],
        errors=[(name, "invalid_request") for name in (None, "elsewhere", "good", "no prompt", "too many", None)],
    )
    taken = yard.lines_of(batch.error_file_id)[2]
    assert taken["response"]["status_code"] == 400
    assert taken["response"]["body"] == {"error": {"code": "invalid_request"}}
    assert taken["error"]["param"] == "custom_id"
    assert "Request 1" in taken["error"]["message"]


def test_a_refusal_by_moderation_is_an_error_of_its_line(yard: Yard, left_by: LeftBy) -> None:
    def submit(batch: Batch, request: BatchRequest) -> None:
        if request.custom_id == "bad":
            raise ModerationBlocked("The prompt was refused.", param="prompt", category="hate")
        yard.submit(batch, request)

    yard.feeder = yard.feeder_of(submit)

    batch = yard.run_to_end(yard.create(line("bad"), line("good")))

    assert left_by(batch) == Ended(output=["good"], errors=[("bad", "moderation_blocked")])


@pytest.mark.parametrize("refusal", [QueueFull, TenantQueueFull, NoModel])
def test_a_full_queue_only_delays(yard: Yard, left_by: LeftBy, refusal: Callable[[str], Exception]) -> None:
    num_refused = 0

    def submit(batch: Batch, request: BatchRequest) -> None:
        nonlocal num_refused
        num_refused += 1
        if num_refused % 3:
            raise refusal("Not now.")
        yard.submit(batch, request)

    yard.feeder = yard.feeder_of(submit)

    batch = yard.run_to_end(yard.create(*map(line, "abc")))

    assert left_by(batch) == Ended(output=["a", "b", "c"], errors=[])


def test_a_video_that_failed_stands_in_the_error_file_with_its_record(yard: Yard, left_by: LeftBy) -> None:
    batch_id = yard.create(line("a"), line("b"))
    yard.feeder.feed()
    yard.fail_next()

    batch = yard.run_to_end(batch_id)

    assert (batch.completed, batch.failed) == (1, 1)
    assert left_by(batch) == Ended(output=["b"], errors=[("a", "out_of_memory")])
    assert yard.lines_of(batch.error_file_id)[0]["response"]["body"]["status"] == "failed"


def test_a_video_that_was_deleted_is_told(yard: Yard, left_by: LeftBy) -> None:
    batch_id = yard.create(line("a"), line("b"))
    yard.feeder.feed()
    yard.store.delete(video_id_of(batch_id, 1))

    assert left_by(yard.run_to_end(batch_id)) == Ended(output=["b"], errors=[("a", "video_not_found")])


def test_a_feeder_that_was_held_up_while_another_took_over_changes_nothing(yard: Yard, left_by: LeftBy) -> None:
    """Its lease had run out: both are at the same batch."""
    is_held_up = True

    def submit(batch: Batch, request: BatchRequest) -> None:
        nonlocal is_held_up
        if is_held_up:
            is_held_up = False
            yard.feeder.feed()
            yard.work()
            yard.feeder.feed()
        yard.submit(batch, request)

    batch_id = yard.create(*map(line, "abcde"))
    yard.feeder_of(submit).feed()

    assert yard.queue.depth() == MAX_AT_WORK
    assert yard.get(batch_id).number == 5
    assert left_by(yard.run_to_end(batch_id)).output == ["a", "b", "c", "d", "e"]


def test_equal_requests_are_each_answered(yard: Yard, left_by: LeftBy) -> None:
    same = {"body": {"prompt": "a red ball"}}

    batch = yard.run_to_end(yard.create(line("a", **same), line("b", **same), line("c", **same)))

    assert left_by(batch) == Ended(output=["a", "b", "c"], errors=[])


class TestCancel:
    def test_before_it_began_it_is_cancelled_at_once(self, yard: Yard) -> None:
        batch_id = yard.create(line("a"))

        batch = yard.batches.cancel(batch_id, tenant="default")

        assert batch.status is BatchStatus.CANCELLED
        yard.feeder.feed()
        assert yard.queue.depth() == 0

    def test_later_what_waits_is_cancelled_and_what_was_made_stays(self, yard: Yard, left_by: LeftBy) -> None:
        batch_id = yard.create(*map(line, "abcdef"))
        yard.feeder.feed()
        yard.work()
        yard.feeder.feed()

        assert yard.batches.cancel(batch_id, tenant="default").status is BatchStatus.CANCELLING
        assert yard.batches.cancel(batch_id, tenant="default").status is BatchStatus.CANCELLING
        yard.feeder.feed()

        batch = yard.get(batch_id)
        assert batch.status is BatchStatus.CANCELLED
        assert yard.queue.depth() == 0
        assert left_by(batch) == Ended(
            output=["a", "b"],
            errors=[("c", "cancelled"), ("d", "cancelled"), ("e", "batch_cancelled"), ("f", "batch_cancelled")],
        )
        assert (batch.completed, batch.failed) == (2, 4)

    def test_what_has_ended_can_not_be_cancelled(self, yard: Yard) -> None:
        batch = yard.run_to_end(yard.create(line("a")))

        with pytest.raises(Conflict, match="completed"):
            yard.batches.cancel(batch.id, tenant="default")

    def test_a_request_on_its_way_into_the_queue_is_cancelled_too(self, yard: Yard) -> None:
        def submit(batch: Batch, request: BatchRequest) -> None:
            yard.submit(batch, request)
            yard.batches.cancel(batch.id, tenant="default")

        batch_id = yard.create(*map(line, "abc"))
        yard.feeder_of(submit).feed()

        assert yard.queue.depth() == 0
        batch = yard.get(batch_id)
        assert (batch.status, batch.number) == (BatchStatus.CANCELLED, 1)


def test_when_its_window_is_over_the_rest_is_given_up(yard: Yard, redis: Redis, left_by: LeftBy) -> None:
    batch_id = yard.create(*map(line, "abcd"))
    yard.feeder.feed()
    yard.fail_next()
    redis.hset(f"wanserve:batch:{batch_id}", "expires_at", 1)

    yard.feeder.feed()

    batch = yard.get(batch_id)

    assert batch.status is BatchStatus.EXPIRED
    assert batch.expired_at is not None
    assert yard.queue.depth() == 0
    assert left_by(batch).errors == [
        ("a", "out_of_memory"),
        ("b", "cancelled"),
        ("c", "batch_expired"),
        ("d", "batch_expired"),
    ]


@pytest.mark.parametrize("content", ["\n", " \n\r\n"])
def test_a_file_without_a_request_fails_the_batch(yard: Yard, content: str) -> None:
    batch = yard.run_to_end(yard.create(content))

    assert batch.status is BatchStatus.FAILED
    assert [error.code for error in batch.errors] == ["empty_file"]


def test_a_file_with_too_many_requests_fails_the_batch(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeder_module, "MAX_LINES", 3)

    assert yard.run_to_end(yard.create(*map(line, "abc"))).status is BatchStatus.COMPLETED
    batch = yard.run_to_end(yard.create(*map(line, "abcd")))

    assert batch.status is BatchStatus.FAILED
    assert [(error.code, error.line) for error in batch.errors] == [("too_many_requests", 4)]


def test_a_batch_whose_file_vanished_from_storage_fails_and_the_others_go_on(yard: Yard, left_by: LeftBy) -> None:
    lost_id, other_id = yard.create(*map(line, "abc")), yard.create(line("x"))
    yard.feeder.feed()
    yard.work()
    yard.storage.delete([yard.get(lost_id).input_key])

    other = yard.run_to_end(other_id)

    assert left_by(other).output == ["x"]
    assert [error.code for error in yard.get(lost_id).errors] == ["file_not_found"]
    assert yard.queue.depth() == 0


class TestFiles:
    def test_what_a_batch_reads_can_not_be_deleted_until_it_has_ended(self, yard: Yard) -> None:
        batch_id = yard.create(line("a"))
        file_id = yard.get(batch_id).input_file_id

        with pytest.raises(Conflict):
            yard.files.delete(file_id, tenant="default")
        yard.run_to_end(batch_id)
        yard.files.delete(file_id, tenant="default")

        with pytest.raises(ObjectNotFound):
            yard.files.get(file_id, tenant="default")

    def test_a_deleted_files_object_is_garbage(self, yard: Yard, redis: Redis) -> None:
        file = yard.upload("x")
        assert redis.zscore("wanserve:garbage", file.object_key) is None

        yard.files.delete(file.id, tenant="default")

        assert redis.zscore("wanserve:garbage", file.object_key) is not None

    def test_what_is_old_goes_but_not_while_a_batch_reads_it(self, yard: Yard, redis: Redis) -> None:
        old, used_by = yard.upload("x"), yard.get(yard.create(line("a")))
        redis.zadd("wanserve:files:expiring", {old.id: 1, used_by.input_file_id: 1})

        yard.files.expire()

        with pytest.raises(ObjectNotFound):
            yard.files.get(old.id, tenant="default")
        assert yard.files.get(used_by.input_file_id, tenant="default")

    def test_an_ended_batch_goes_when_its_time_is_over(self, yard: Yard, redis: Redis) -> None:
        batch = yard.run_to_end(yard.create(line("a"), "{"))
        assert redis.zscore("wanserve:batches:expiring", batch.id) is not None
        redis.zadd("wanserve:batches:expiring", {batch.id: 1})

        yard.files.expire()

        assert redis.keys(f"wanserve:batch:{batch.id}*") == []
        assert yard.batches.list(tenant="default", after=None, limit=10).batches == ()

    def test_nothing_lies_in_redis_for_each_line_once_the_batch_has_ended(self, yard: Yard, redis: Redis) -> None:
        batch = yard.run_to_end(yard.create(line("a"), line("a"), "{"))

        assert redis.keys(f"wanserve:batch:{batch.id}*") == [f"wanserve:batch:{batch.id}"]

    def test_an_upload_that_nobody_came_to_name_is_garbage_in_time(self, yard: Yard, redis: Redis) -> None:
        file = yard.upload("x")
        lost = yard.files.upload(io.BytesIO(b"x"))

        assert redis.zrange("wanserve:garbage", 0, -1) == [lost.object_key]
        assert file.object_key != lost.object_key
