"""Says of a storm's evidence what must not be, a sentence each. Pure."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from tests.chaos.customer import Receipt
from tests.chaos.evidence import Ending, Evidence, Remains
from tests.chaos.journal import Deed, Entry

STANDING_KEYS = re.compile(
    r"rq:(queues|workers|workers:\w+|(finished|failed|canceled):\w+)"
    r"|wanserve:(cache-bytes|cards|outbox|webhooks:cursor|workers)"
)
"""What is not about one job or video, and may stay for ever."""

PASSING_KEYS = re.compile(
    r"rq:(job|results|worker):.+|wanserve:(chore|claim|deletion|idempotency|preview|unlisted|usage|wake|worker):.+"
)
"""What may be there for a while after its video is gone, because it goes by itself."""


def judge(evidence: Evidence) -> list[str]:
    """Empty when nothing is wrong."""
    return [
        *lost(evidence),
        *doubled(evidence),
        *told_wrongly(evidence),
        *repeated_for_nothing(evidence.journal),
        *broken_files(evidence),
        *orphans(evidence.remains),
    ]


def lost(evidence: Evidence) -> Iterator[str]:
    """Acknowledged, and then not what its customer was told."""
    for receipt in evidence.receipts:
        if receipt.last_status == "open":
            yield f"{_name(receipt)} never ended."
        elif receipt.last_status != "deleted":
            yield from _lost(receipt, evidence.endings[receipt.video_ids[0]])


def _lost(receipt: Receipt, ending: Ending) -> Iterator[str]:
    shown = ending.error_code or ending.status
    wanted = "cancelled" if receipt.last_status == "cancelled" else "completed"
    if shown != wanted:
        yield f"{_name(receipt)} should be {wanted} and is {shown}."


def doubled(evidence: Evidence) -> Iterator[str]:
    """Made, or committed, more than once."""
    for receipt in evidence.receipts:
        if len(set(receipt.video_ids)) > 1:
            yield f"{_name(receipt)} became several videos: {receipt.video_ids}."
    commits = defaultdict(set)
    for entry in evidence.journal:
        if entry.deed is Deed.COMMITTED:
            commits[entry.job_id].add(entry.execution_id)
    for job_id, executions in commits.items():
        if len(executions) > 1:
            yield f"{job_id} was committed by {len(executions)} executions."
    for job_id, count in evidence.num_results.items():
        if count > 1:
            yield f"{job_id} has {count} results."


def told_wrongly(evidence: Evidence) -> Iterator[str]:
    """A video without its one event, or an event of a video that nobody was told of."""
    told = Counter(event.video_id for event in evidence.events)
    acknowledged = {video_id for receipt in evidence.receipts for video_id in receipt.video_ids}
    for video_id in sorted(acknowledged):
        if told[video_id] != 1:
            yield f"{video_id} has {told[video_id]} terminal events."
    for video_id in sorted(set(told) - acknowledged):
        yield f"{video_id} has an event, and nobody was ever told of it."
    kinds = {event.video_id: event.kind for event in evidence.events}
    for video_id, ending in evidence.endings.items():
        if kinds.get(video_id) != f"video.{ending.status}":
            yield f"{video_id} is {ending.status} and its event says {kinds.get(video_id)}."


def repeated_for_nothing(journal: Sequence[Entry]) -> Iterator[str]:
    """An execution that went back behind what the one before it had saved."""
    for job_id, executions in executions_of(journal).items():
        saved = 0
        for execution in executions:
            started = execution[0].step
            if started < saved:
                yield f"{job_id} began again at step {started}, with {saved} saved."
            saved = max(saved, saved_step(execution))


def broken_files(evidence: Evidence) -> Iterator[str]:
    for receipt in evidence.receipts:
        ending = evidence.endings.get(receipt.video_ids[0]) if receipt.video_ids else None
        if ending is not None and ending.status == "completed":
            found, wanted = ending.num_decoded_frames, receipt.order.num_frames
            if found != wanted:
                yield f"The file of {_name(receipt)} has {found} frames instead of {wanted}."


def orphans(remains: Remains) -> Iterator[str]:
    """Objects that nothing names and keys of videos and jobs that are gone."""
    for key in sorted(remains.objects):
        yield f"Nothing names the object {key}."
    for key, seconds in sorted(remains.keys.items()):
        if STANDING_KEYS.fullmatch(key):
            continue
        if not PASSING_KEYS.fullmatch(key):
            yield f"{key} was left behind."
        elif seconds is None:
            yield f"{key} would stay for ever."
    if remains.cached_bytes:
        yield f"The empty cache counts {remains.cached_bytes} bytes."


def num_repeated_steps(journal: Sequence[Entry]) -> int:
    """Steps that were done before."""
    steps = [(entry.job_id, entry.step) for entry in journal if entry.deed is Deed.STEPPED]
    return len(steps) - len(set(steps))


def num_unsaved_steps(journal: Sequence[Entry]) -> int:
    """Steps that executions had done since the last saved state when another one took over."""
    unsaved = 0
    for executions in executions_of(journal).values():
        saved = 0
        for execution in executions[:-1]:
            saved = max(saved, saved_step(execution))
            unsaved += max(0, max(entry.step for entry in execution) - saved)
    return unsaved


def executions_of(journal: Sequence[Entry]) -> dict[str, list[list[Entry]]]:
    """By job: what each of its executions did in the engine, in the order in which they began there."""
    begun: dict[str, dict[str, list[Entry]]] = defaultdict(dict)
    for entry in journal:
        if entry.deed is Deed.ADMITTED:
            begun[entry.job_id].setdefault(entry.execution_id, []).append(entry)
        elif entry.deed is not Deed.COMMITTED:
            begun[entry.job_id][entry.execution_id].append(entry)
    return {job_id: list(executions.values()) for job_id, executions in begun.items()}


def saved_step(execution: Sequence[Entry]) -> int:
    return max((entry.step for entry in execution if entry.deed is Deed.SAVED), default=0)


def _name(receipt: Receipt) -> str:
    return f"{receipt.order.key} ({receipt.video_ids[0] if receipt.video_ids else 'not acknowledged'})"
