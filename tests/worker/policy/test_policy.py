"""Who leads a step, who shares it, who comes and goes."""

import subprocess
import sys
from dataclasses import replace

import pytest

from tests.worker.policy.device import AMPLE, Device, make_job
from worker.policy.job import Phase
from worker.policy.limits import Limits
from worker.policy.policy import Policy

FILM = {"high": 26, "low": 14, "step_seconds": 26.0}
PREVIEW = {"high": 2, "low": 2, "step_seconds": 3.4}


def test_equal_long_jobs_are_finished_one_after_another():
    device = Device()
    device.add(*(make_job(f"film-{number}", **FILM) for number in range(3)))

    device.run()

    assert [device.finished_at[job_id] for job_id in device.finished] == [1040.0, 2080.0, 3120.0]
    assert device.finished == ["film-0", "film-1", "film-2"]


def test_a_long_job_that_comes_later_does_not_interrupt_one_under_way():
    device = Device()
    device.add(make_job("film", **FILM))
    device.step()
    device.add(make_job("a little shorter film", high=25, low=14, step_seconds=26.0, arrived_at=1.0))

    device.run()

    assert device.finished == ["film", "a little shorter film"]


def test_a_short_job_preempts_a_long_one_at_the_next_step_which_then_goes_on():
    device = Device()
    device.add(make_job("film", **FILM))
    for _ in range(3):
        device.step()
    device.add(make_job("preview", **PREVIEW, arrived_at=device.now))

    made = [device.step() for _ in range(5)]

    assert made == [("preview",)] * 4 + [("film",)]
    assert device.steps_done["film"] == 4


def test_the_preempted_job_keeps_its_place_on_the_device_where_there_is_room():
    device = Device()
    device.add(make_job("film", **FILM))
    device.step()
    device.add(make_job("preview", **PREVIEW))

    device.run()

    assert not any(decision.park for decision in device.decisions)


def test_the_preempted_job_is_parked_where_there_is_none_and_comes_back():
    device = Device(replace(AMPLE, resident_bytes=10, parked_bytes=5))
    device.add(make_job("film", **FILM))
    device.step()
    device.add(make_job("preview", **PREVIEW))

    device.run()

    assert [decision.park for decision in device.decisions if decision.park] == [("film",)]
    assert [decision.unpark for decision in device.decisions if decision.unpark] == [("film",)]
    assert device.finished == ["preview", "film"]


def test_as_many_are_parked_as_make_room_and_none_of_them_comes_back_at_once():
    device = Device(replace(AMPLE, resident_bytes=70, token_budget=1000))
    device.add(make_job("small", high=9, resident_bytes=20), make_job("large", high=8, resident_bytes=40))
    device.step()
    device.add(make_job("preview", high=1, resident_bytes=45, arrived_at=1.0))

    assert device.step() == ("preview",)
    assert device.decisions[-1].park == ("small", "large")


def test_nobody_is_parked_where_host_memory_has_no_room():
    device = Device(replace(AMPLE, resident_bytes=10, parked_bytes=4))
    device.add(make_job("film", **FILM))
    device.step()
    device.add(make_job("preview", **PREVIEW))

    device.run()

    assert device.finished == ["film", "preview"]


def test_a_job_larger_than_every_limit_runs_alone():
    limits = Limits(token_budget=1, max_jobs_in_flight=1, resident_bytes=0, parked_bytes=0, swap_seconds=0)
    device = Device(limits)
    device.add(make_job("film", rows=2, tokens=75_600), make_job("another", rows=2, tokens=75_600))

    device.run()

    assert device.finished == ["film", "another"]


@pytest.mark.parametrize(
    ("token_budget", "max_jobs_in_flight", "sharers"),
    [(1, 8, 1), (29, 8, 2), (30, 8, 3), (1000, 8, 5), (1000, 4, 3), (1000, 1, 1)],
)
def test_equal_shapes_share_a_forward_within_the_budget_and_leave_a_place_free(
    token_budget, max_jobs_in_flight, sharers
):
    device = Device(replace(AMPLE, token_budget=token_budget, max_jobs_in_flight=max_jobs_in_flight))
    device.add(*(make_job(f"clip-{number}", tokens=10) for number in range(5)))

    assert device.step() == tuple(f"clip-{number}" for number in range(sharers))


def test_guidance_rows_count_and_other_shapes_and_experts_stay_out():
    device = Device(replace(AMPLE, token_budget=50))
    device.add(
        make_job("guided", rows=2),
        make_job("other shape", shape=(1, 16, 1, 60, 104)),
        make_job("resumed", high=0, low=9),
        make_job("also guided", rows=2),
        make_job("too much", rows=2),
        make_job("plain", rows=1),
    )

    assert device.step() == ("guided", "also guided", "plain")


def test_a_job_waits_for_company_that_catches_up():
    device = Device(replace(AMPLE, token_budget=100))
    device.add(make_job("short", high=2, low=4), make_job("longer", high=4, low=5))

    made = [device.step() for _ in range(9)]

    assert made == [("short", "longer")] * 2 + [("longer",)] * 2 + [("short", "longer")] * 4 + [("longer",)]


@pytest.mark.parametrize(
    "other",
    [
        make_job("other", high=7, low=5),
        make_job("other", high=4, low=5, shape=(1, 16, 21, 90, 160)),
        make_job("other", high=4, low=5, tokens=91),
        make_job("other", high=4, low=0, decode_seconds=9.0),
    ],
    ids=["too far behind", "of another size", "too large", "done with high noise"],
)
def test_a_job_waits_for_nobody_who_does_not_catch_up(other):
    device = Device(replace(AMPLE, token_budget=100))
    device.add(make_job("short", high=2, low=4), other)

    device.run()

    assert device.finished_at["short"] == 6.0


def test_all_that_wait_for_company_are_done_sooner_on_the_whole():
    """Eight jobs of 10 to 30 steps once took 111 forwards instead of 44."""
    device = Device(replace(AMPLE, token_budget=100))
    device.add(*(make_job(f"job-{i}", high=3 + i, low=7 + 2 * i) for i in range(8)))

    device.run()

    assert device.now <= 2 * 31
    assert device.finished[0] == "job-0"


def test_a_job_that_comes_joins_the_running_forward():
    device = Device(replace(AMPLE, token_budget=20))
    device.add(make_job("first", high=4))
    device.step()
    device.add(make_job("second", high=4))

    assert device.step() == ("first", "second")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"priority": "interactive"}, {"priority": "standard"}),
        ({"priority": "standard"}, {"priority": "bulk"}),
        ({"priority": "interactive", "high": 7}, {"priority": "standard"}),
        ({"priority": "standard"}, {"priority": "interactive", "high": 30}),
        ({"high": 2}, {"high": 3}),
        ({"decode_seconds": 1.0}, {"decode_seconds": 2.0}),
        ({"arrived_at": -1.0}, {"arrived_at": 0.0}),
    ],
)
def test_least_seconds_for_the_weight_of_its_priority_goes_first(first, second):
    for order in ((first, second), (second, first)):
        device = Device()
        device.add(*(make_job("first" if each is first else "second", **each) for each in order))

        assert device.step() == ("first",)


def test_a_job_whose_priority_is_raised_goes_ahead():
    device = Device()
    device.add(make_job("one", priority="bulk"), make_job("other", priority="bulk"))

    device.policy.update("other", priority="interactive", deadline=None)

    assert device.step() == ("other",)


def test_a_deadline_hurries_a_job_only_when_it_must_start():
    device = Device()
    device.add(make_job("film", high=10, low=0, step_seconds=10.0, deadline=200.0))
    # Ten seconds of previews every ten seconds: the film gets its share of the oldest only.
    for number in range(20):
        device.add(make_job(f"preview-{number}", high=1, low=0, step_seconds=5.0, arrived_at=1.0))

    device.run()

    # 100 s with a margin of a quarter: it leads from about 75 s on, with what it has left by then.
    assert device.finished[0] == "preview-0"
    assert 150.0 < device.finished_at["film"] <= 200.0
    assert max(device.finished_at.values()) == 200.0


def test_a_deadline_that_cannot_be_met_any_more_hurries_nobody():
    device = Device()
    device.add(make_job("hopeless", high=10, low=0, step_seconds=10.0, deadline=99.0))
    device.add(make_job("preview", high=1, low=0, arrived_at=1.0))

    device.run()

    assert device.finished == ["preview", "hopeless"]


def test_a_job_that_runs_late_against_its_estimate_stops_hurrying():
    policy = Policy(AMPLE)
    policy.add(make_job("hurried", high=10, low=0, deadline=20.0))
    policy.add(make_job("preview", high=5, low=0, arrived_at=1.0))
    assert policy.decide(8.0).step.job_ids == ("hurried",)

    policy.stepped(["hurried"], 3.5)

    assert policy.decide(11.5).step.job_ids == ("preview",)


def test_many_deadlines_are_met_the_earliest_first():
    device = Device()
    # The first to come has the latest: in the order of arrival, most would be late.
    device.add(*(make_job(f"clip-{number}", high=1, low=0, deadline=120.0 - 2 * number) for number in range(50)))

    device.run()

    late = [job_id for job_id, at in device.finished_at.items() if at > device.jobs[job_id].deadline]
    assert late == []


def test_phases_of_one_expert_share_a_swap_where_swaps_cost():
    swaps = {}
    for seconds in (0.0, 2.0):
        device = Device(replace(AMPLE, swap_seconds=seconds))
        device.add(*(make_job(f"preview-{number}", **PREVIEW) for number in range(4)))
        device.run()
        swaps[seconds] = device.num_swaps

    assert swaps == {0.0: 7, 2.0: 3}


def test_a_detour_lasts_no_longer_than_eight_swaps():
    device = Device(replace(AMPLE, swap_seconds=2.0))
    device.add(*(make_job(f"preview-{number}", **PREVIEW) for number in range(4)))

    leaders = [device.step()[0] for _ in range(8)]

    # 16 s have room for two phases of 6.8 s after the leader's own, and not for a third.
    assert leaders == [f"preview-{number}" for number in (0, 0, 1, 1, 2, 2, 0, 0)]


def test_a_long_phase_is_no_detour():
    device = Device(replace(AMPLE, swap_seconds=2.0))
    device.add(make_job("film", **FILM))
    while device.steps_done["film"] < 30:
        device.step()
    device.add(make_job("preview", **PREVIEW, arrived_at=device.now))

    assert device.step() == ("preview",)


def test_a_film_that_is_about_to_end_its_phase_is_not_interrupted_by_a_swap():
    device = Device(replace(AMPLE, swap_seconds=4.0))
    device.add(make_job("film", **FILM))
    while device.steps_done["film"] < 39:
        device.step()
    device.add(make_job("preview", **PREVIEW, arrived_at=device.now))

    device.run()

    assert device.finished == ["film", "preview"]


def test_the_hand_over_is_announced_with_the_last_step_before_it():
    device = Device()
    device.add(make_job("clip", high=2, low=2), make_job("next", high=2, low=2))

    device.run()

    announced = [decision.step.followed_by for decision in device.decisions[:-1]]
    came = [decision.step.expert for decision in device.decisions[1:-1]]
    assert announced == [*came, "low_noise"]


def test_a_denoised_job_keeps_its_bytes_until_it_is_decoded_and_removed():
    policy = Policy(replace(AMPLE, resident_bytes=10))
    policy.add(make_job("first", high=1, low=0))
    policy.decide(0.0)
    policy.stepped(["first"], 1.0)
    policy.add(make_job("second", high=1, low=0))

    assert policy.decide(1.0).step is None
    policy.remove("first")
    assert policy.decide(2.0).admit == ("second",)


def test_the_halves_of_a_batch_are_told_apart_and_a_failed_job_leaves():
    policy = Policy(replace(AMPLE, token_budget=30))
    policy.add(make_job("a"))
    policy.add(make_job("b"))
    policy.add(make_job("broken"))
    assert policy.decide(0.0).step.job_ids == ("a", "b", "broken")

    policy.stepped(["a"], 1.0)
    policy.stepped(["b"], 1.0)
    policy.remove("broken")

    assert policy.decide(1.0).step.job_ids == ("a", "b")
    assert policy.num_in_flight == 2


def test_there_is_room_for_company_within_the_budget_and_for_one_that_preempts():
    policy = Policy(replace(AMPLE, token_budget=30))
    rooms = []
    for name in "abcde":
        rooms.append(policy.has_room)
        policy.add(make_job(name))
    assert rooms == [True, True, True, False, False]


def test_a_device_that_lets_a_job_wait_wants_no_more():
    policy = Policy(replace(AMPLE, token_budget=10))
    policy.add(make_job("short", high=1))
    assert not policy.has_room
    policy.decide(0.0)
    assert policy.has_room, "for a job that preempts"
    policy.add(make_job("long", high=9))
    policy.decide(0.0)
    assert not policy.has_room
    policy.remove("long")
    assert policy.has_room


def test_there_is_room_for_no_more_than_may_be_in_flight():
    policy = Policy(replace(AMPLE, token_budget=1000, max_jobs_in_flight=2))
    policy.add(make_job("a"))
    assert policy.has_room
    policy.add(make_job("b"))
    assert not policy.has_room


@pytest.mark.parametrize(
    ("misuse", "told"),
    [
        (lambda policy: policy.add(make_job("clip")), "clip is here already"),
        (lambda policy: policy.remove("unknown"), "unknown is not here"),
        (lambda policy: policy.update("unknown", priority="bulk", deadline=None), "unknown is not here"),
        (lambda policy: policy.stepped(["clip"], 1.0), "clip is waiting after 0 steps"),
        (lambda policy: make_job("done", high=0, low=0), "done has no step left"),
        (lambda policy: make_job("odd", step_seconds=float("nan")), "odd has estimates"),
        (lambda policy: make_job("odd", decode_seconds=-1.0), "odd has estimates"),
        (lambda policy: make_job("odd", arrived_at=float("nan")), "odd arrived at nan"),
        (lambda policy: make_job("odd", deadline=float("nan")), "odd arrived at 0.0, due nan"),
        (lambda policy: replace(AMPLE, token_budget=0), "token_budget and max_jobs_in_flight must be at least 1"),
        (lambda policy: replace(AMPLE, max_jobs_in_flight=0), "must be at least 1"),
        (lambda policy: replace(AMPLE, parked_bytes=-1), "must be at least 0"),
        (lambda policy: replace(AMPLE, swap_seconds=float("nan")), "must be at least 0"),
    ],
)
def test_misuse_is_told(misuse, told):
    policy = Policy(AMPLE)
    policy.add(make_job("clip"))

    with pytest.raises(ValueError, match=told):
        misuse(policy)


def test_a_phase_without_steps_is_passed_over():
    device = Device()
    device.add(replace(make_job("clip"), phases=(Phase("high_noise", 0, 1, 1.0), Phase("low_noise", 1, 1, 1.0))))

    device.run()

    assert device.finished == ["clip"]


def test_the_policy_needs_no_torch_and_no_redis():
    code = "import sys, worker.policy.policy, worker.policy.estimate; print({'torch', 'redis'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert answer.stdout.strip() == "set()"


def test_it_is_busy_with_long_jobs_until_they_are_denoised():
    policy = Policy(replace(AMPLE, token_budget=1))
    assert policy.busy_seconds == 0

    policy.add(make_job("film", **FILM))
    policy.add(make_job("preview", **PREVIEW))

    assert policy.busy_seconds == pytest.approx((40 * 26.0 + 4 * 3.4) / 2)


def test_where_one_more_would_share_the_forwards_it_is_not_busy():
    policy = Policy(replace(AMPLE, token_budget=1000))
    policy.add(make_job("film", **FILM))

    assert policy.busy_seconds == 0
