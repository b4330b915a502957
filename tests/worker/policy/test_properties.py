"""What holds for any load, under any limits."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.worker.policy.device import Device, make_job
from worker.policy.age import OLDEST_SHARE
from worker.policy.limits import Limits

SHAPES = ((1, 16, 21, 60, 104), (1, 16, 21, 90, 160))
LIMITS = st.builds(
    Limits,
    token_budget=st.integers(1, 80),
    max_jobs_in_flight=st.integers(1, 6),
    resident_bytes=st.integers(0, 60),
    parked_bytes=st.integers(0, 30),
    swap_seconds=st.sampled_from([0.0, 0.5, 4.0]),
)


@st.composite
def arrivals(draw):
    """Lists of (how many steps to run before, a job, whether to cancel one then)."""
    load = []
    for number in range(draw(st.integers(1, 12))):
        high, low = draw(st.integers(0, 5)), draw(st.integers(0, 5))
        job = make_job(
            f"job-{number}",
            high=high,
            low=low if high else max(1, low),
            step_seconds=draw(st.sampled_from([0.0, 0.5, 1.0, 7.0])),
            rows=draw(st.integers(1, 2)),
            tokens=draw(st.integers(1, 50)),
            shape=draw(st.sampled_from(SHAPES)),
            priority=draw(st.sampled_from(["interactive", "standard", "bulk"])),
            deadline=draw(st.none() | st.floats(0, 100)),
            decode_seconds=draw(st.sampled_from([0.0, 2.0])),
            resident_bytes=draw(st.integers(0, 40)),
            parked_bytes=draw(st.integers(0, 20)),
        )
        load.append((draw(st.integers(0, 4)), job, draw(st.booleans())))
    return load


def run(load, limits) -> Device:
    device = Device(limits)
    for steps, job, cancels in load:
        for _ in range(steps):
            device.step()
        device.add(job)
        others = sorted(device.places)
        if cancels and len(others) > 1:
            device.cancel(others[len(others) // 2])
        elif len(others) > 1:
            device.policy.update(others[0], priority="interactive", deadline=job.deadline)
    device.run()
    return device


@given(arrivals(), LIMITS)
@settings(deadline=None, derandomize=True, max_examples=300)
def test_every_job_makes_each_of_its_steps_once_and_no_limit_is_exceeded(load, limits):
    """The device checks the limits, and that each job's next step is the one after its last."""
    device = run(load, limits)

    finished = {job_id: device.steps_done[job_id] for job_id in device.finished}
    assert finished == {job_id: device.jobs[job_id].num_steps for job_id in finished}
    cancelled = sum(cancels for _, _, cancels in load)
    assert len(load) - cancelled <= len(finished) <= len(load)


@given(arrivals(), LIMITS)
@settings(deadline=None, derandomize=True, max_examples=50)
def test_equal_input_gives_equal_decisions(load, limits):
    assert run(load, limits).decisions == run(load, limits).decisions


@given(
    older=st.lists(st.tuples(st.integers(1, 8), st.sampled_from([1.0, 3.0, 10.0])), min_size=1, max_size=4),
    newer=st.lists(st.tuples(st.integers(1, 3), st.sampled_from([0.5, 1.0, 10.0])), min_size=1, max_size=4),
)
@example(older=[(8, 10.0)], newer=[(1, 0.5)])
@settings(deadline=None, derandomize=True, max_examples=100)
def test_whatever_keeps_coming_a_job_is_done_within_five_times_the_work_before_it(older, newer):
    """(W + 1.2 c) / share: W seconds of work are older or its own, c is the longest step."""
    device = Device()
    for number, (steps, seconds) in enumerate(older):
        device.add(make_job(f"old-{number}", high=steps, low=0, step_seconds=seconds, priority="bulk"))
    last = f"old-{len(older) - 1}"
    work = sum(device.remaining_seconds(job_id) for job_id in device.jobs)
    longest = max(seconds for _, seconds in older + newer)
    bound = (work + (1 + OLDEST_SHARE) * longest) / OLDEST_SHARE

    number = 0
    while last in device.places:
        # There is always something better ranked.
        if not any(job_id.startswith("new") for job_id in device.places):
            steps, seconds = newer[number % len(newer)]
            device.add(make_job(f"new-{number}", high=steps, low=0, step_seconds=seconds, priority="interactive"))
            number += 1
        device.step()
        assert device.now <= bound


@given(st.integers(1, 3), st.integers(0, 20), st.integers(0, 10))
@settings(deadline=None, derandomize=True, max_examples=50)
def test_a_long_job_gets_in_and_through_even_where_places_are_few(max_jobs_in_flight, resident_bytes, parked_bytes):
    limits = Limits(
        token_budget=20,
        max_jobs_in_flight=max_jobs_in_flight,
        resident_bytes=resident_bytes,
        parked_bytes=parked_bytes,
        swap_seconds=0.5,
    )
    device = Device(limits)
    device.add(make_job("film", high=6, low=4, step_seconds=5.0))

    for number in range(1000):
        if "film" in device.finished:
            break
        device.add(make_job(f"preview-{number}", high=1, low=1, priority="interactive", arrived_at=1.0))
        device.step()

    assert "film" in device.finished
