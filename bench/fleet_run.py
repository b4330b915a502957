"""A fleet of simulated GPUs on one mirrored queue, event by event; and an ideal single queue for the same load."""

import heapq
import math
from collections import deque
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bench.fleet_device import Books, Device, Ticket
from bench.fleet_load import KINDS, Load, work_of
from bench.fleet_queue import MirroredQueue, Waiter
from worker.policy.job import Priority

LEASE_SECONDS, HEARTBEAT_SECONDS = 45.0, 10.0
MAX_ATTEMPTS = 3
BACK_SECONDS = 300.0
"""Until a lost GPU's successor has its model loaded."""

HOUR_SECONDS = 3600.0
LONGEST_SECONDS = max(work_of(kind).job.seconds for kind in range(len(KINDS)))
COUNTED = ("submit", "claim", "ask", "wait", "report", "checkpoint", "finish")
"""Operations; to ask is to claim in vain."""

PRIORITIES: tuple[Priority, ...] = ("interactive", "standard", "bulk")


@dataclass(frozen=True, slots=True)
class Faults:
    """How GPUs go."""

    per_gpu_hour: float = 0.001
    """About once in six weeks."""

    has_notice: bool = False
    """SIGTERM first: states are saved. The step under way is lost all the same."""

    has_checkpoints: bool = True


@dataclass(frozen=True, slots=True)
class Outcome:
    """Arrays by job, in the order of arrival."""

    num_gpus: int
    load: Load
    ends: NDArray[np.float64]
    """NaN of those that failed."""

    books: Books
    work_seconds_until_end: float
    """By the last arrival."""

    up_seconds: float
    """By the last arrival."""

    num_failed: int
    num_deaths: int
    hours: dict[str, NDArray[np.float64]]
    """Redis operations by name and hour, from the first midnight on; the last hour is not whole."""

    @property
    def utilisation(self) -> float:
        return self.work_seconds_until_end / self.up_seconds

    @property
    def lost_share(self) -> float:
        """Of the GPU seconds used."""
        return self.books.lost_seconds / self.books.work_seconds

    def waits(self, priority: Priority, *, after: float = 0.0) -> NDArray[np.float64]:
        """Seconds beyond what each took by itself; of those that arrived after this time."""
        return waits(self.load, self.ends, priority, after=after)


def waits(load: Load, ends: NDArray[np.float64], priority: Priority, *, after: float) -> NDArray[np.float64]:
    alone = np.array([work_of(kind).seconds for kind in range(len(KINDS))])
    is_meant = np.array([kind.priority == priority for kind in KINDS])[load.kinds]
    is_meant &= (load.arrivals >= after) & np.isfinite(ends)
    # Who finds the right expert in place is quicker than alone: that is no negative wait.
    return np.maximum(0.0, ends - load.arrivals - alone[load.kinds])[is_meant]


def ideal_ends(load: Load, num_gpus: int) -> NDArray[np.float64]:
    """One line by priority and age, GPUs that never fail, nothing preempted: the first gets the next free GPU."""
    ends = np.full(len(load), math.nan)
    free: list[float] = [0.0] * num_gpus
    seconds = [work_of(kind).seconds for kind in range(len(KINDS))]
    ranks = [PRIORITIES.index(kind.priority) for kind in KINDS]
    line: list[tuple[int, int]] = []
    arrived = 0
    while arrived < len(load) or line:
        now = max(free[0], load.arrivals[arrived]) if not line else free[0]
        while arrived < len(load) and load.arrivals[arrived] <= now:
            heapq.heappush(line, (ranks[load.kinds[arrived]], arrived))
            arrived += 1
        _, first = heapq.heappop(line)
        ends[first] = max(now, load.arrivals[first]) + seconds[load.kinds[first]]
        heapq.heapreplace(free, float(ends[first]))
    return ends


def run_fleet(
    num_gpus: int, load: Load, *, faults: Faults, rng: np.random.Generator, is_exact: bool = False
) -> Outcome:
    return _Fleet(num_gpus, load, faults=faults, rng=rng, is_exact=is_exact).run()


Event = Literal["turn", "poll", "die", "back", "requeue"]


class _Fleet:
    def __init__(self, num_gpus: int, load: Load, *, faults: Faults, rng: np.random.Generator, is_exact: bool) -> None:
        self._load, self._faults, self._rng, self._is_exact = load, faults, rng, is_exact
        self._books = Books()
        self._queue = MirroredQueue()
        self._tickets: dict[str, Ticket] = {}
        self._devices: list[Device | None] = [self._new_device() for _ in range(num_gpus)]
        self._idle = deque(range(num_gpus))
        self._idle_since = [float(load.arrivals[0])] * num_gpus
        self._turns = [0] * num_gpus
        """Numbers of what each device does now: events of an earlier one are void."""

        self._starts, self._steps, self._ends = (np.full(num_gpus, math.inf) for _ in range(3))
        self._busy = np.zeros(num_gpus)
        """Of the stretches during which a device would take another job; else inf."""

        self._num_roomy = self._num_sharing = 0
        self._poll_at = math.inf
        self._events: list[tuple[float, int, Event, int, object]] = []
        self._num_events = 0
        self._down_seconds = 0.0
        self._num_failed = self._num_deaths = 0
        num_hours = math.ceil(load.arrivals[-1] / HOUR_SECONDS) + 1
        self._hours = {kind: np.zeros(num_hours) for kind in COUNTED}

    def run(self) -> Outcome:
        load, arrived, last = self._load, 0, float(self._load.arrivals[-1])
        for device in range(len(self._devices)):
            self._plan_death(device, now=float(load.arrivals[0]))
        ends = np.full(len(load), math.nan)
        work_until_end: float | None = None
        num_ended = 0
        while num_ended + self._num_failed < len(load):
            is_arrival = arrived < len(load) and (not self._events or load.arrivals[arrived] <= self._events[0][0])
            if is_arrival:
                now = float(load.arrivals[arrived])
                self._arrive(arrived, now=now)
                arrived += 1
            else:
                now, _, event, device, detail = heapq.heappop(self._events)
                if now > last and work_until_end is None:
                    work_until_end = self._books.work_seconds
                self._happen(event, device, detail, now=now)
            for ticket, end in self._books.ended:
                ends[int(ticket.waiter.id)] = end
                self._count("finish", now)
                self._queue.end()
            num_ended += len(self._books.ended)
            self._books.ended.clear()
            self._poll(now)
        return Outcome(
            num_gpus=len(self._devices),
            load=load,
            ends=ends,
            books=self._books,
            work_seconds_until_end=self._books.work_seconds if work_until_end is None else work_until_end,
            up_seconds=len(self._devices) * (last - float(load.arrivals[0])) - self._down_seconds,
            num_failed=self._num_failed,
            num_deaths=self._num_deaths,
            hours=self._hours,
        )

    def _happen(self, event: Event, device: int, detail: object, *, now: float) -> None:
        match event:
            case "turn" if detail == self._turns[device]:
                self._turn(device, now=now)
            case "poll":
                if now >= self._poll_at:
                    self._poll_at = math.inf
                if detail == self._turns[device]:
                    self._turn(device, now=now)
            case "die":
                self._die(device, now=now)
            case "back":
                self._devices[device] = self._new_device()
                self._plan_death(device, now=now)
                self._turn(device, now=now)
            case "requeue":
                assert isinstance(detail, Ticket)
                self._queue.put_back(detail.waiter)
                self._wake(now)

    def _arrive(self, number: int, *, now: float) -> None:
        kind = int(self._load.kinds[number])
        work, priority = work_of(kind), KINDS[kind].priority
        waiter = Waiter(f"{number:08}", priority, str(self._load.tenants[number]), work.seconds, work.shape)
        self._tickets[waiter.id] = Ticket(waiter, work, arrived_at=now)
        self._queue.submit(waiter)
        self._count("submit", now)
        self._wake(now)

    def _wake(self, now: float) -> None:
        if self._idle:
            device = self._idle.popleft()
            idle_seconds = now - self._idle_since[device]
            # Once a second, when its wait is over.
            self._count("ask", now, idle_seconds)
            self._count("wait", now, idle_seconds)
            self._turn(device, now=now)

    def _turn(self, number: int, *, now: float) -> None:
        """worker/loop.py: jobs, then a step."""
        device = self._devices[number]
        assert device is not None
        self._count_stretch(number, device, now=now)
        self._turns[number] += 1
        self._forget_room(number)
        free_at = device.book(now)
        if free_at > now:
            self._plan(free_at, "turn", number, self._turns[number])
            return
        self._take_jobs(device, now=now)
        device.decide(now)
        if device.stretch is None:
            self._idle.append(number)
            self._idle_since[number] = now
            return
        self._plan(device.stretch.end, "turn", number, self._turns[number])
        if device.has_room:
            stretch = device.stretch
            self._starts[number], self._steps[number], self._ends[number] = (
                stretch.start,
                stretch.step_seconds,
                stretch.end,
            )
            self._busy[number] = device.busy_seconds
            self._num_roomy += 1
            self._num_sharing += self._busy[number] == 0

    def _take_jobs(self, device: Device, *, now: float) -> None:
        was_stepping = device.is_stepping
        while device.has_room:
            waiter = self._queue.claim(device.shapes, busy_seconds=device.busy_seconds)
            self._count("ask" if waiter is None else "claim", now)
            if waiter is None:
                return
            device.take(self._tickets[waiter.id], now=now)
            if not was_stepping:
                return

    def _poll(self, now: float) -> None:
        """While jobs wait, the first device with room that ends a step asks for one."""
        if not self._num_roomy or not len(self._queue):
            return
        least_cost = self._queue.least_cost
        if self._queue.longest_cost(LONGEST_SECONDS) < least_cost and not self._num_sharing:
            return
        limits = self._busy * (self._queue.longest_cost(1.0))
        may_take = (self._busy == 0) | (limits >= least_cost)
        if not may_take.any():
            return
        with np.errstate(invalid="ignore"):
            whole = np.maximum(0.0, np.floor((now - self._starts) / self._steps + 1e-9))
            asks = np.minimum(self._starts + (whole + 1) * self._steps, self._ends)
        asks = np.where(may_take & np.isfinite(asks), asks, math.inf)
        device = int(np.argmin(asks))
        if asks[device] >= self._poll_at:
            return
        self._poll_at = float(asks[device])
        self._plan(float(asks[device]), "poll", device, self._turns[device])

    def _die(self, number: int, *, now: float) -> None:
        device, faults = self._devices[number], self._faults
        assert device is not None
        self._num_deaths += 1
        self._count_stretch(number, device, now=now)
        self._turns[number] += 1
        self._forget_room(number)
        if device.stretch is None and number in self._idle:
            self._idle.remove(number)
        self._devices[number] = None
        for ticket in device.die(now, has_notice=faults.has_notice, has_checkpoints=faults.has_checkpoints):
            if ticket.num_kills >= MAX_ATTEMPTS:
                self._num_failed += 1
                continue
            silent = 0.0 if faults.has_notice else LEASE_SECONDS - self._rng.uniform(0.0, HEARTBEAT_SECONDS)
            self._plan(now + silent, "requeue", number, ticket)
        if now < self._load.arrivals[-1]:
            self._down_seconds += BACK_SECONDS
        self._plan(now + BACK_SECONDS, "back", number, None)

    def _plan_death(self, device: int, *, now: float) -> None:
        if self._faults.per_gpu_hour:
            self._plan(now + self._rng.exponential(HOUR_SECONDS / self._faults.per_gpu_hour), "die", device, None)

    def _plan(self, time: float, event: Event, device: int, detail: object) -> None:
        heapq.heappush(self._events, (time, self._num_events, event, device, detail))
        self._num_events += 1

    def _forget_room(self, device: int) -> None:
        if math.isfinite(self._starts[device]):
            self._starts[device] = self._steps[device] = self._ends[device] = math.inf
            self._num_sharing -= self._busy[device] == 0
            self._busy[device] = 0.0
            self._num_roomy -= 1

    def _count_stretch(self, number: int, device: Device, *, now: float) -> None:
        if device.stretch is None:
            return
        done = device.stretch.steps_until(now)
        self._count("report", now, done)
        self._count("checkpoint", now, sum(held.num_saves(done) for held in device.stretch.members))
        if math.isfinite(self._starts[number]):
            self._count("ask", now, done)

    def _count(self, kind: str, now: float, number: float = 1) -> None:
        # What comes after the last arrival is not the day's load.
        hour = int(now / HOUR_SECONDS)
        if hour < len(self._hours[kind]):
            self._hours[kind][hour] += number

    def _new_device(self) -> Device:
        return Device(self._books, is_exact=self._is_exact)
