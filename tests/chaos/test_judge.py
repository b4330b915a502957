"""The judge of a storm sees what must not be: each kind of wrong in evidence that is right otherwise."""

from dataclasses import replace

import pytest

from tests.chaos.customer import Receipt
from tests.chaos.evidence import Ending, Evidence, Remains, VideoEvent
from tests.chaos.journal import Deed, Entry
from tests.chaos.judge import judge, num_repeated_steps, num_unsaved_steps
from tests.chaos.orders import Order

ORDER = Order("order-0", "a red ball", "64x64", 4, seed=0, intent="keep", moment="at once")
RECEIPT = Receipt(ORDER, ("v",), "completed", num_repeats=0)
ENDING = Ending("completed", error_code=None, num_decoded_frames=ORDER.num_frames)
REMAINS = Remains(objects=frozenset(), keys={"wanserve:cards": None, "rq:job:j": 60.0}, cached_bytes=0)


def entries(*deeds: tuple[str, Deed, int]) -> tuple[Entry, ...]:
    """Of job j, in this order: execution, deed, step."""
    return tuple(Entry(float(at), 1, deed, "j", execution, step) for at, (execution, deed, step) in enumerate(deeds))


JOURNAL = entries(
    ("first", Deed.ADMITTED, 0),
    ("first", Deed.STEPPED, 1),
    ("first", Deed.SAVED, 1),
    ("first", Deed.STEPPED, 2),
    ("second", Deed.ADMITTED, 1),
    ("second", Deed.STEPPED, 2),
    ("second", Deed.COMMITTED, 0),
)
CLEAN = Evidence(
    receipts=(RECEIPT,),
    endings={"v": ENDING},
    events=(VideoEvent("v", "video.completed"),),
    journal=JOURNAL,
    num_results={"j": 1},
    remains=REMAINS,
)
FAILED = Ending("failed", error_code="internal_error", num_decoded_frames=None)

WRONGS = {
    "never ended": {"receipts": (replace(RECEIPT, last_status="open"),)},
    "should be completed and is internal_error": {
        "endings": {"v": FAILED},
        "events": (VideoEvent("v", "video.failed"),),
    },
    "became several videos": {
        "receipts": (replace(RECEIPT, video_ids=("v", "w")),),
        "events": (VideoEvent("v", "video.completed"), VideoEvent("w", "video.completed")),
    },
    "committed by 2 executions": {"journal": (*JOURNAL, *entries(("first", Deed.COMMITTED, 0)))},
    "has 2 results": {"num_results": {"j": 2}},
    "has 0 terminal events": {"receipts": (RECEIPT, replace(RECEIPT, video_ids=("gone",), last_status="deleted"))},
    "has 2 terminal events": {"events": CLEAN.events * 2},
    "nobody was ever told of it": {"events": (*CLEAN.events, VideoEvent("w", "video.completed"))},
    "its event says video.failed": {"events": (VideoEvent("v", "video.failed"),)},
    "began again at step 0, with 1 saved": {"journal": (*JOURNAL, *entries(("third", Deed.ADMITTED, 0)))},
    "has 3 frames instead of 5": {"endings": {"v": replace(ENDING, num_decoded_frames=3)}},
    "Nothing names the object": {"remains": replace(REMAINS, objects=frozenset({"assets/a/video.mp4"}))},
    "was left behind": {"remains": replace(REMAINS, keys={"wanserve:video:v": 60.0})},
    "would stay for ever": {"remains": replace(REMAINS, keys={"rq:job:j": None})},
    "counts 9 bytes": {"remains": replace(REMAINS, cached_bytes=9)},
}


def test_nothing_is_said_of_clean_evidence() -> None:
    assert judge(CLEAN) == []


@pytest.mark.parametrize("sentence", WRONGS)
def test_every_wrong_is_told(sentence: str) -> None:
    told = judge(replace(CLEAN, **WRONGS[sentence]))  # type: ignore[arg-type]
    assert [sentence in line for line in told] == [True], told


def test_a_video_whose_cancellation_was_answered_must_show_it() -> None:
    cancelled = replace(RECEIPT, last_status="cancelled")
    shown = Ending("failed", error_code="cancelled", num_decoded_frames=None)
    events = (VideoEvent("v", "video.failed"),)
    assert judge(replace(CLEAN, receipts=(cancelled,), endings={"v": shown}, events=events)) == []
    assert judge(replace(CLEAN, receipts=(cancelled,))) != []


def test_a_deleted_video_has_its_event_and_no_ending() -> None:
    assert judge(replace(CLEAN, receipts=(replace(RECEIPT, last_status="deleted"),), endings={})) == []


def test_steps_are_counted_as_repeated_or_unsaved() -> None:
    assert (num_repeated_steps(JOURNAL), num_unsaved_steps(JOURNAL)) == (1, 1)


def test_a_frozen_worker_that_goes_on_without_its_lease_counts_too() -> None:
    zombie = entries(
        ("first", Deed.ADMITTED, 0),
        ("first", Deed.STEPPED, 1),
        ("first", Deed.SAVED, 1),
        ("second", Deed.ADMITTED, 1),
        ("second", Deed.STEPPED, 2),
        ("first", Deed.STEPPED, 2),
    )
    assert (num_repeated_steps(zombie), num_unsaved_steps(zombie)) == (1, 1)
