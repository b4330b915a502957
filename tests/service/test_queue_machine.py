"""A storm of every queue operation in every order, on a real server, against a model of what must hold.

Whatever happens: each video ends at most once and each end has exactly one event, no job is lost, only the owner of
a job commits it, what is shown agrees with what was answered, and files live as long as something refers to them.
"""

from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis import Redis

from service.errors import BudgetExceeded, Conflict, NotFound, QueueFull, TenantQueueFull, VideoNotFound
from service.jobs.card import ModelCard
from service.jobs.execution import Claim, Finding, Outcome, Progress, Signal, Verdict
from service.jobs.garbage import Garbage
from service.jobs.operations import Operations
from service.jobs.queue import JobQueue
from service.jobs.record import PRIORITIES, Asset, AssetFile, Priority, new_execution_id
from service.jobs.request import parse, resolve
from service.jobs.reviews import Reviews
from service.jobs.store import VideoStore
from service.jobs.submission import Submission, SubmitKind
from service.settings import Settings
from tests.service.queue_model import Model

MAX_DEPTH = 6
MAX_ATTEMPTS = 2
MAX_ACTIVE = 5
"""Of a tenant: jobs that wait or run."""

BUDGET_SECONDS = 12.0
CHECKPOINTS = ("f" * 64, "0" * 64)
"""Fingerprints; a worker has one of them."""


class QueueMachine(RuleBasedStateMachine):
    """Several clients and workers in turn; workers die, stall, come back late and repeat themselves."""

    redis: Redis
    settings: Settings
    card: ModelCard

    videos = Bundle("videos")
    claims = Bundle("claims")

    @initialize()
    def begin(self) -> None:
        self.redis.flushall()
        self.queue = JobQueue(self.redis, self.settings)
        self.store = VideoStore(self.redis)
        self.garbage = Garbage(self.redis)
        self.operations = Operations(self.redis)
        self.reviews = Reviews(self.redis, self.settings)
        self.model = Model()

    @rule(
        target=videos,
        prompt=st.sampled_from("abcd"),
        seed=st.integers(0, 1),
        checkpoint=st.sampled_from((CHECKPOINTS[0], *CHECKPOINTS)),
        tenant=st.sampled_from("xy"),
        priority=st.sampled_from(PRIORITIES),
        deadline_seconds=st.sampled_from((None, None, 1000.0)),
    )
    def submit(
        self,
        prompt: str,
        seed: int,
        checkpoint: str,
        tenant: str,
        priority: Priority,
        deadline_seconds: float | None,
    ) -> object:
        request = resolve(parse({"prompt": prompt, "seed": seed}), self.card).request
        submission = Submission(
            request=request,
            fingerprint=checkpoint,
            tenant=tenant,
            priority=priority,
            deadline_seconds=deadline_seconds,
            expected_seconds=1.0 + seed / 3,
            max_active_by_tenant=MAX_ACTIVE,
            daily_gpu_seconds_of_tenant=BUDGET_SECONDS,
        )
        expected = self.model.kind((prompt, seed, checkpoint))
        try:
            submitted = self.queue.submit(submission)
        except QueueFull:
            assert self.queue.depth() >= MAX_DEPTH
            assert expected is SubmitKind.QUEUED
            return multiple()
        except TenantQueueFull:
            assert self._num_active(tenant) == MAX_ACTIVE
            assert expected is SubmitKind.QUEUED
            return multiple()
        except BudgetExceeded:
            assert self._used_milliseconds(tenant) + 1000 * (1 + seed / 3) > 1000 * BUDGET_SECONDS - 1
            assert expected is SubmitKind.QUEUED
            return multiple()
        assert submitted.kind is expected
        record = submitted.record
        assert self.queue.submit(submission).record.id == record.id
        if expected is SubmitKind.CACHED:
            self.model.ended[record.id] = "completed"
            self.model.shown[record.id] = self.model.cached[(prompt, seed, checkpoint)]
        else:
            self.model.open[record.id] = record.job_id
            self.model.content[record.job_id] = (prompt, seed, checkpoint)
        return record.id

    @precondition(lambda self: self.model.open.keys() and len(self.model.owner) < len(set(self.model.open.values())))
    @rule(target=claims, checkpoint=st.sampled_from((CHECKPOINTS[0], *CHECKPOINTS)))
    def claim(self, checkpoint: str) -> object:
        before = {priority: self._list(priority, checkpoint) for priority in PRIORITIES}
        execution_id = new_execution_id()
        claimed = self.queue.claim(worker="w", fingerprint=checkpoint, execution_id=execution_id)
        if claimed is None:
            assert not any(before.values())
            return multiple()
        job_id = claimed.lease.job_id
        assert job_id in [first[0] for first in before.values() if first]
        assert not any(job_id in self._list(priority, checkpoint) for priority in PRIORITIES)
        assert claimed == self.queue.claim(worker="w", fingerprint=checkpoint, execution_id=execution_id)
        assert claimed.attempt <= MAX_ATTEMPTS
        assert job_id not in self.model.owner
        self.model.owner[job_id] = claimed
        return claimed

    @rule(claimed=claims)
    def work(self, claimed: Claim) -> None:
        expected = self.model.signal(claimed.lease)
        progress = Progress(stage="denoise", step=1, num_steps=2, percent=50)
        assert self.queue.report(claimed.lease, progress) is expected
        assert self.queue.renew([claimed.lease]) == [expected]
        self.model.lapsed.discard(claimed.lease.execution_id)

    @rule(claimed=claims)
    def lease_runs_out(self, claimed: Claim) -> None:
        pair = f"{claimed.lease.job_id}:{claimed.lease.execution_id}"
        self.redis.zadd("wanserve:leases", {pair: 1}, xx=True)
        if self.model.owns(claimed.lease):
            self.model.lapsed.add(claimed.lease.execution_id)

    @precondition(lambda self: self.model.lapsed)
    @rule()
    def reclaim(self) -> None:
        model = self.model
        expected = {
            job_id: (
                "cancelled"
                if not model.is_wanted(job_id)
                else "failed"
                if owner.attempt == MAX_ATTEMPTS
                else "requeued"
            )
            for job_id, owner in model.owner.items()
            if owner.lease.execution_id in model.lapsed
        }
        assert {found.job_id: found.action for found in self.queue.reclaim()} == expected
        assert self.queue.reclaim() == []
        for job_id in expected:
            del model.owner[job_id]

    @rule(claimed=claims)
    def complete(self, claimed: Claim) -> None:
        self._finish(claimed, "completed", is_flagged=False)

    @rule(claimed=claims)
    def complete_what_must_be_looked_at(self, claimed: Claim) -> None:
        self._finish(claimed, "completed", is_flagged=True)

    @rule(claimed=claims, outcome=st.sampled_from(("failed", "cancelled")))
    def end_otherwise(self, claimed: Claim, outcome: str) -> None:
        self._finish(claimed, outcome, is_flagged=False)

    def _finish(self, claimed: Claim, outcome: str, *, is_flagged: bool) -> None:
        lease, model = claimed.lease, self.model
        if outcome == "cancelled" and model.signal(lease) is not Signal.CANCEL:
            # A worker calls it cancelled only when told so.
            return
        verdict = model.verdict(lease, outcome)
        if outcome == "completed":
            self.garbage.announce(*(file.key for file in files_of(claimed)))
            model.uploaded.add(claimed.payload.asset_id)
        followers = [video_id for video_id, job_id in model.open.items() if job_id == lease.job_id]
        finding = Finding(category="sexual", score=0.9) if is_flagged and outcome == "completed" else None
        if verdict is Verdict.COMMITTED and finding is not None:
            verdict = Verdict.HELD
            model.held[lease.job_id] = claimed.payload.asset_id
            model.committed[lease.job_id] = (lease.execution_id, "held")
        is_kept = outcome == "completed" and verdict is Verdict.COMMITTED
        assert self.queue.finish(lease, as_outcome(claimed, outcome), finding=finding) is verdict
        if model.owns(lease):
            del model.owner[lease.job_id]
        if verdict is Verdict.COMMITTED:
            model.committed[lease.job_id] = (lease.execution_id, outcome)
        if is_kept:
            model.cached[model.content[lease.job_id]] = claimed.payload.asset_id
            model.shown |= dict.fromkeys(followers, claimed.payload.asset_id)
        assert self.queue.finish(lease, as_outcome(claimed, outcome), finding=finding) is model.verdict(lease, outcome)

    @precondition(lambda self: self.model.held)
    @rule(claimed=claims, approves=st.booleans())
    def decide(self, claimed: Claim, *, approves: bool) -> None:
        job_id, model = claimed.lease.job_id, self.model
        followers = [video_id for video_id, open_job in model.open.items() if open_job == job_id]
        try:
            if approves:
                self.reviews.approve(f"{job_id}-frames", by="ann")
            else:
                self.reviews.reject(f"{job_id}-frames", by="ann", reason="No.")
        except (Conflict, NotFound):
            assert job_id not in model.held
            return
        asset_id = model.held.pop(job_id)
        execution, _ = model.committed[job_id]
        model.committed[job_id] = (execution, "completed" if approves else "failed")
        if approves:
            model.cached[model.content[job_id]] = asset_id
            model.shown |= dict.fromkeys(followers, asset_id)

    @rule(claimed=consumes(claims), is_charged=st.booleans())
    def hand_back(self, claimed: Claim, *, is_charged: bool) -> None:
        lease, queue = claimed.lease, self.queue
        is_mine = self.model.owns(lease)
        verdict = queue.retry(lease, "out of memory.") if is_charged else queue.release(lease)
        assert verdict is (Verdict.COMMITTED if is_mine else Verdict.LOST)
        if is_mine:
            del self.model.owner[lease.job_id]

    @rule(video_id=videos)
    def cancel(self, video_id: str) -> None:
        with suppress(VideoNotFound):
            assert self.queue.cancel(video_id) == (video_id in self.model.open)
            assert not self.queue.cancel(video_id)

    @precondition(lambda self: self.model.open)
    @rule()
    def deadlines_pass(self) -> None:
        late = set(self.redis.zrange("wanserve:deadlines", 0, -1))
        assert late <= self.model.open.keys()
        self._let_pass("wanserve:deadlines")
        assert self.queue.expire() == len(late)
        for video_id in late:
            assert self.store.get(video_id).state == "expired"

    @precondition(lambda self: self.model.ended)
    @rule()
    def retention_passes(self) -> None:
        ended = self.redis.zrange("wanserve:expiring", 0, -1)
        self._let_pass("wanserve:expiring")
        self.queue.expire()
        for video_id in ended:
            self.model.shown.pop(video_id, None)
            assert self.redis.exists(f"wanserve:video:{video_id}") == 0

    @precondition(lambda self: self.model.cached)
    @rule()
    def cache_passes(self) -> None:
        self._let_pass("wanserve:cache-expiring")
        assert self.queue.expire() == len(self.model.cached)
        self.model.cached.clear()

    @rule(claimed=claims, action=st.sampled_from(("requeue", "fail")))
    def operate(self, claimed: Claim, action: str) -> None:
        job_id, model = claimed.lease.job_id, self.model
        is_running = job_id in model.owner
        with suppress(Conflict, NotFound):
            if action == "requeue":
                self.operations.requeue(job_id)
            else:
                self.operations.fail(job_id, reason="By hand.")
            assert model.is_wanted(job_id)
            assert is_running or action == "fail"
            model.owner.pop(job_id, None)
            return
        assert not model.is_wanted(job_id) or (action == "requeue" and not is_running)

    @rule(video_id=consumes(videos))
    def delete(self, video_id: str) -> None:
        with suppress(VideoNotFound):
            self.store.delete(video_id)
        self.model.shown.pop(video_id, None)
        with suppress(VideoNotFound):
            self.store.get(video_id)
            raise AssertionError("a deleted video is still there")

    @invariant()
    def every_completed_video_waits_to_be_recorded_deleted_ones_too(self) -> None:
        events = [event for _, event in self.redis.xrange("wanserve:outbox")]
        completed = {event["video_id"] for event in events if event["state"] == "completed"}
        assert set(self.redis.hkeys("wanserve:unrecorded")) == completed

    @invariant()
    def every_end_has_exactly_one_event(self) -> None:
        events = [(e["video_id"], e["state"]) for _, e in self.redis.xrange("wanserve:outbox")]
        assert len({video_id for video_id, _ in events}) == len(events)
        for video_id, state in events:
            assert self.model.ended.setdefault(video_id, state) == state
            self.model.open.pop(video_id, None)
        assert self.model.ended.keys() == {video_id for video_id, _ in events}
        for job_id in [job_id for job_id in self.model.held if not self.model.is_wanted(job_id)]:
            # Nobody wants it any more, or an operator ended it: what its execution hears is that.
            del self.model.held[job_id]
            execution, _ = self.model.committed[job_id]
            self.model.committed[job_id] = (execution, self.redis.hget(f"rq:job:{job_id}", "ended_as"))

    @invariant()
    def nothing_is_lost(self) -> None:
        """Every open video's job waits, is leased or is held, and looks so; no other job waits."""
        waiting, held = set(self._waiting()), self.model.held.keys()
        assert waiting == set(self.model.open.values()) - self.model.owner.keys() - held
        assert {review.job_id for review in self.reviews.list(limit=100)[0]} == held
        for video_id, job_id in self.model.open.items():
            record = self.store.get(video_id)
            assert (record.job_id, record.is_terminal) == (job_id, False)
            assert (job_id in waiting) + (job_id in self.model.owner) + (job_id in held) == 1
            assert (record.status == "queued") == (job_id in waiting)
            assert record.is_held == (job_id in held)
            assert record.asset is None

    @invariant()
    def leases_and_rqs_registries_agree(self) -> None:
        leases = set(self.redis.zrange("wanserve:leases", 0, -1))
        assert leases == {f"{owner.lease.job_id}:{owner.lease.execution_id}" for owner in self.model.owner.values()}
        assert {pair for p in PRIORITIES for pair in self.redis.zrange(f"rq:wip:{p}", 0, -1)} == leases
        assert len(self.redis.keys("rq:execution:*")) == len(leases)

    @invariant()
    def every_waiting_job_has_one_place(self) -> None:
        waiting = self._waiting()
        assert len(set(waiting)) == len(waiting) == self.queue.depth()
        listed = [job_id for p in PRIORITIES for job_id in self.redis.lrange(f"rq:queue:{p}", 0, -1)]
        backlog = [job_id for key in self.redis.keys("wanserve:backlog:*") for job_id in self.redis.zrange(key, 0, -1)]
        assert sorted([*listed, *backlog]) == sorted(waiting)
        by_tenant = [self.redis.scard(key) for key in self.redis.keys("wanserve:tenant:*:waiting")]
        assert sum(by_tenant) == len(waiting)

    @invariant()
    def what_is_reserved_is_what_lives(self) -> None:
        """A job that waits or runs holds its estimate, every other one nothing, and nobody is over the budget by it."""
        reservations = self.redis.hgetall("wanserve:reserved")
        assert reservations.keys() == set(self._waiting()) | self.model.owner.keys()
        for tenant in "xy":
            held = [text.split(":") for text in reservations.values() if text.endswith(f":{tenant}")]
            assert sum(int(reserved) for _, reserved, _ in held) == self._usage(tenant, "reserved_ms")
            assert len(held) == self._num_active(tenant) <= MAX_ACTIVE
            assert self._used_milliseconds(tenant) <= 1000 * BUDGET_SECONDS

    @invariant()
    def files_live_as_long_as_something_refers_to_them(self) -> None:
        due = {key.split("/")[1] for key in self.garbage.due()}
        referred = {*self.model.shown.values(), *self.model.cached.values(), *self.model.held.values()}
        assert due.isdisjoint(referred)
        assert due == self.model.uploaded - referred
        assert {key.rpartition(":")[0] for key in self.redis.keys("wanserve:asset:*:references")} == {
            f"wanserve:asset:{asset_id}" for asset_id in referred
        }

    def teardown(self) -> None:
        """Once all has ended and expired, nothing is left of it."""
        if not hasattr(self, "queue"):
            return
        for video_id in [*self.model.open]:
            self.queue.cancel(video_id)
        for owner in self.model.owner.values():
            self.queue.finish(owner.lease, Outcome.cancelled())
        for key in ("wanserve:expiring", "wanserve:cache-expiring"):
            self._let_pass(key)
        self.queue.expire(limit=1000)
        for checkpoint in CHECKPOINTS:
            assert self.queue.claim(worker="w", fingerprint=checkpoint, execution_id=new_execution_id()) is None
        assert self.reviews.backlog().num_pending == 0
        passing = ("outbox", "garbage", "unlisted:", "deletion:", "cache-bytes", "usage:", "review", "unrecorded")
        kept = tuple(f"wanserve:{kind}" for kind in passing)
        left = [key for key in self.redis.keys("wanserve:*") if not key.startswith(kept)]
        assert left == []
        assert self.redis.get("wanserve:cache-bytes") in (None, "0")

    def _num_active(self, tenant: str) -> int:
        return self.redis.scard(f"wanserve:tenant:{tenant}:active")

    def _used_milliseconds(self, tenant: str) -> int:
        return self._usage(tenant, "reserved_ms") + self._usage(tenant, "spent_ms")

    def _usage(self, tenant: str, field: str) -> int:
        """Over all days: midnight may pass."""
        return sum(int(self.redis.hget(key, field) or 0) for key in self.redis.keys(f"wanserve:usage:{tenant}:*"))

    def _list(self, priority: str, checkpoint: str) -> list[str]:
        listed = self.redis.lrange(f"rq:queue:{priority}", 0, -1)
        return [job_id for job_id in listed if self.model.content[job_id][2] == checkpoint]

    def _waiting(self) -> list[str]:
        keys = self.redis.keys("wanserve:waiting:*")
        return [job_id for key in keys for job_id in self.redis.zrange(key, 0, -1)]

    def _let_pass(self, key: str) -> None:
        for member in self.redis.zrange(key, 0, -1):
            self.redis.zadd(key, {member: 1})


def files_of(claimed: Claim) -> tuple[AssetFile, ...]:
    asset = as_outcome(claimed, "completed").asset
    assert asset is not None
    return asset.files


def as_outcome(claimed: Claim, state: str) -> Outcome:
    match state:
        case "failed":
            return Outcome.failed("broken", "It broke.")
        case "cancelled":
            return Outcome.cancelled()
        case _:
            key = f"assets/{claimed.payload.asset_id}/video.mp4"
            file = AssetFile(key=key, content_type="video/mp4", size_bytes=1)
            asset = Asset(id=claimed.payload.asset_id, video=file, width=256, height=256, num_frames=17, fps=8)
            return Outcome.completed(asset, stage_durations={}, inference_time_seconds=1.0, worker="w")


@pytest.fixture
def machine(redis: Redis, settings: Settings, card: ModelCard) -> Iterator[type[QueueMachine]]:
    QueueMachine.redis = redis
    QueueMachine.settings = settings.with_changes(
        max_queue_depth=MAX_DEPTH, max_attempts=MAX_ATTEMPTS, cache_scope="global"
    )
    QueueMachine.card = card
    yield QueueMachine
    del QueueMachine.redis, QueueMachine.settings, QueueMachine.card


def test_no_order_of_events_breaks_the_queue(machine: type[QueueMachine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=hypothesis_settings(
            max_examples=40,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        ),
    )
