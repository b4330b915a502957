"""A storm of every queue operation in every order, on a real server, against a model of what must hold.

Whatever happens: each video ends at most once and each end has exactly one event, no job is lost, only the owner of
a job commits it, and what is shown agrees with what was answered.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

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
    rule,
    run_state_machine_as_test,
)
from redis import Redis

from service.errors import QueueFull, VideoNotFound
from service.jobs.card import ModelCard
from service.jobs.queue import JobQueue
from service.jobs.record import (
    Asset,
    AssetFile,
    Claim,
    Lease,
    Outcome,
    Progress,
    Signal,
    Submission,
    SubmitKind,
    Verdict,
    new_execution_id,
)
from service.jobs.request import parse, resolve
from service.jobs.store import VideoStore
from service.settings import Settings

MAX_DEPTH = 6
MAX_ATTEMPTS = 2
CHECKPOINTS = ("f" * 64, "0" * 64)
"""Fingerprints; a worker has one of them."""

Content = tuple[str, int, str]
"""Prompt, seed and checkpoint: what makes two requests the same."""


@dataclass
class Model:
    """What the queue should know, in plain sets."""

    open: dict[str, str] = field(default_factory=dict)
    """Job by video, for videos that have not ended."""

    content: dict[str, Content] = field(default_factory=dict)
    """By job."""

    ended: dict[str, str] = field(default_factory=dict)
    owner: dict[str, Claim] = field(default_factory=dict)
    """By job: the claim that may commit it."""

    committed: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By job: execution and state that ended it."""

    lapsed: set[str] = field(default_factory=set)
    """Executions whose lease ran out."""

    cached: set[Content] = field(default_factory=set)

    def is_wanted(self, job_id: str) -> bool:
        return job_id in self.open.values()

    def owns(self, lease: Lease) -> bool:
        owner = self.owner.get(lease.job_id)
        return owner is not None and owner.lease == lease

    def signal(self, lease: Lease) -> Signal:
        if not self.owns(lease):
            return Signal.LOST
        return Signal.OK if self.is_wanted(lease.job_id) else Signal.CANCEL

    def verdict(self, lease: Lease, state: str) -> Verdict:
        """Of finish()."""
        if self.owns(lease):
            is_kept = self.is_wanted(lease.job_id) or state == "cancelled"
            return Verdict.COMMITTED if is_kept else Verdict.LOST
        is_mine = self.committed.get(lease.job_id) == (lease.execution_id, state)
        return Verdict.ALREADY_MINE if is_mine else Verdict.LOST

    def kind(self, content: Content) -> SubmitKind:
        if content in self.cached:
            return SubmitKind.CACHED
        has_twin = any(self.content[job_id] == content for job_id in self.open.values())
        return SubmitKind.JOINED if has_twin else SubmitKind.QUEUED


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
        self.model = Model()

    @rule(
        target=videos,
        prompt=st.sampled_from("abcd"),
        seed=st.integers(0, 1),
        checkpoint=st.sampled_from((CHECKPOINTS[0], *CHECKPOINTS)),
    )
    def submit(self, prompt: str, seed: int, checkpoint: str) -> object:
        request = resolve(parse({"prompt": prompt, "seed": seed}), self.card).request
        submission = Submission(request=request, fingerprint=checkpoint)
        expected = self.model.kind((prompt, seed, checkpoint))
        try:
            submitted = self.queue.submit(submission)
        except QueueFull:
            assert self.queue.depth() >= MAX_DEPTH
            assert expected is SubmitKind.QUEUED
            return multiple()
        assert submitted.kind is expected
        record = submitted.record
        assert self.queue.submit(submission).record.id == record.id
        if expected is SubmitKind.CACHED:
            self.model.ended[record.id] = "completed"
        else:
            self.model.open[record.id] = record.job_id
            self.model.content[record.job_id] = (prompt, seed, checkpoint)
        return record.id

    @rule(target=claims, checkpoint=st.sampled_from(CHECKPOINTS))
    def claim(self, checkpoint: str) -> object:
        waiting = self.redis.lrange("rq:queue:standard", 0, -1)
        mine = [job_id for job_id in waiting if self.model.content[job_id][2] == checkpoint]
        execution_id = new_execution_id()
        claimed = self.queue.claim(worker="w", fingerprint=checkpoint, execution_id=execution_id)
        if claimed is None:
            assert mine == []
            return multiple()
        assert claimed.lease.job_id == mine[0]
        waiting.remove(mine[0])
        assert self.redis.lrange("rq:queue:standard", 0, -1) == waiting
        assert claimed == self.queue.claim(worker="w", fingerprint=checkpoint, execution_id=execution_id)
        assert claimed.attempt <= MAX_ATTEMPTS
        assert claimed.lease.job_id not in self.model.owner
        self.model.owner[claimed.lease.job_id] = claimed
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

    @rule(claimed=claims, outcome=st.sampled_from(("completed", "failed", "cancelled")))
    def finish(self, claimed: Claim, outcome: str) -> None:
        lease, model = claimed.lease, self.model
        if outcome == "cancelled" and model.signal(lease) is not Signal.CANCEL:
            # A worker calls it cancelled only when told so.
            return
        verdict = model.verdict(lease, outcome)
        is_cached = outcome == "completed" and verdict is Verdict.COMMITTED
        assert self.queue.finish(lease, as_outcome(claimed, outcome)) is verdict
        if model.owns(lease):
            del model.owner[lease.job_id]
        if verdict is Verdict.COMMITTED:
            model.committed[lease.job_id] = (lease.execution_id, outcome)
        if is_cached:
            model.cached.add(model.content[lease.job_id])
        assert self.queue.finish(lease, as_outcome(claimed, outcome)) is model.verdict(lease, outcome)

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

    @rule(video_id=consumes(videos))
    def delete(self, video_id: str) -> None:
        self.store.delete(video_id)
        with suppress(VideoNotFound):
            self.store.get(video_id)
            raise AssertionError("a deleted video is still there")

    @invariant()
    def every_end_has_exactly_one_event(self) -> None:
        events = [(e["video_id"], e["state"]) for _, e in self.redis.xrange("wanserve:outbox")]
        assert len({video_id for video_id, _ in events}) == len(events)
        for video_id, state in events:
            assert self.model.ended.setdefault(video_id, state) == state
            self.model.open.pop(video_id, None)
        assert self.model.ended.keys() == {video_id for video_id, _ in events}

    @invariant()
    def nothing_is_lost(self) -> None:
        """Every open video's job waits or is leased, and looks so; no other job waits."""
        waiting = set(self.redis.lrange("rq:queue:standard", 0, -1))
        assert waiting == set(self.model.open.values()) - self.model.owner.keys()
        for video_id, job_id in self.model.open.items():
            record = self.store.get(video_id)
            assert (record.job_id, record.is_terminal) == (job_id, False)
            assert (job_id in waiting) != (job_id in self.model.owner)
            assert (record.status == "queued") == (job_id in waiting)

    @invariant()
    def leases_and_rqs_registries_agree(self) -> None:
        leases = set(self.redis.zrange("wanserve:leases", 0, -1))
        assert leases == {f"{owner.lease.job_id}:{owner.lease.execution_id}" for owner in self.model.owner.values()}
        assert set(self.redis.zrange("rq:wip:standard", 0, -1)) == leases
        assert len(self.redis.keys("rq:execution:*")) == len(leases)
        waiting = self.redis.lrange("rq:queue:standard", 0, -1)
        assert len(set(waiting)) == len(waiting)


def as_outcome(claimed: Claim, state: str) -> Outcome:
    match state:
        case "failed":
            return Outcome.failed("broken", "It broke.")
        case "cancelled":
            return Outcome.cancelled()
        case _:
            file = AssetFile(key="k", content_type="video/mp4", size_bytes=1)
            asset = Asset(id=claimed.payload.asset_id, video=file, width=256, height=256, num_frames=17, fps=8)
            return Outcome.completed(asset, stage_durations={}, inference_time_seconds=1.0, worker="w")


@pytest.fixture
def machine(redis: Redis, settings: Settings, card: ModelCard) -> Iterator[type[QueueMachine]]:
    QueueMachine.redis = redis
    QueueMachine.settings = settings.with_changes(max_queue_depth=MAX_DEPTH, max_attempts=MAX_ATTEMPTS)
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
