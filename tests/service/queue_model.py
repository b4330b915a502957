"""What the queue should know after a storm of operations, in plain sets; test_queue_machine.py holds a server to it."""

from dataclasses import dataclass, field

from service.jobs.execution import Claim, Lease, Signal, Verdict
from service.jobs.submission import SubmitKind

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

    cached: dict[Content, str] = field(default_factory=dict)
    """Asset by content."""

    shown: dict[str, str] = field(default_factory=dict)
    """Asset by video, of videos that are completed and have a record."""

    held: dict[str, str] = field(default_factory=dict)
    """Asset by job, of jobs whose files wait for a person's look."""

    uploaded: set[str] = field(default_factory=set)
    """Assets whose files are in storage, or were."""

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
        if self.committed.get(lease.job_id) == (lease.execution_id, "held") and lease.job_id in self.held:
            return Verdict.HELD if state == "completed" else Verdict.LOST
        is_mine = self.committed.get(lease.job_id) == (lease.execution_id, state)
        return Verdict.ALREADY_MINE if is_mine else Verdict.LOST

    def kind(self, content: Content) -> SubmitKind:
        if content in self.cached:
            return SubmitKind.CACHED
        has_twin = any(self.content[job_id] == content for job_id in self.open.values())
        return SubmitKind.JOINED if has_twin else SubmitKind.QUEUED
