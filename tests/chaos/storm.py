"""Customers order while one fault after the other befalls the cluster; then everything is looked at and deleted."""

import io
import random
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise

import av
import httpx

from tests.chaos.cluster import Cluster, wait_until
from tests.chaos.customer import Customer, Receipt
from tests.chaos.evidence import Ending, Evidence, VideoEvent
from tests.chaos.faults import Plan, befall, shuffled
from tests.chaos.journal import read_journals
from tests.chaos.orders import Order, draw_orders
from tests.chaos.remains import remains_of

NUM_CUSTOMERS = 24
"""At once."""

MIN_WARM_WORKERS = 2
"""Before the next fault."""

CALM_SECONDS = 600.0
"""So long after the last fault everything must have ended."""


class Storm:
    """Takes a cluster without workers."""

    def __init__(self, cluster: Cluster, plan: Plan, *, seed: int) -> None:
        self._cluster = cluster
        self._plan = plan
        self._chance = random.Random(seed)
        self._over = threading.Event()

    def run(self) -> Evidence:
        """Returns when everything has ended, was looked at and was deleted."""
        self._cluster.start_workers(self._plan.num_workers)
        with self._cluster.client() as client:
            return self._look(client, self._rage(client))

    def _rage(self, client: httpx.Client) -> list[Receipt]:
        orders = draw_orders(self._plan.num_orders, self._chance)
        faults = shuffled(self._plan.faults, self._chance)
        lives: list[Future[Receipt]] = []
        with ThreadPoolExecutor(NUM_CUSTOMERS, thread_name_prefix="customer") as customers:
            try:
                for wave, fault in zip(_waves(orders, len(faults)), faults, strict=True):
                    lives += [customers.submit(self._customer(client, order).live) for order in wave]
                    self._cluster.worker_at_work()
                    befall(self._cluster, fault)
                    wait_until(lambda: len(self._cluster.warm_workers()) >= MIN_WARM_WORKERS)
                self._wait_for(lives)
            finally:
                self._over.set()
        return [life.result() for life in lives]

    def _customer(self, client: httpx.Client, order: Order) -> Customer:
        return Customer(client, order, over=self._over)

    def _wait_for(self, lives: Sequence[Future[Receipt]]) -> None:
        """Those that are not over by then are told as open."""
        deadline = time.monotonic() + CALM_SECONDS
        wait_until(lambda: all(life.done() for life in lives) or time.monotonic() > deadline, seconds=CALM_SECONDS + 60)

    def _look(self, client: httpx.Client, receipts: Sequence[Receipt]) -> Evidence:
        kept = [receipt.video_ids[0] for receipt in receipts if receipt.last_status not in ("deleted", "open")]
        endings = {video_id: _ending(client, video_id) for video_id in kept}
        journal = read_journals(self._cluster.folder)
        redis = self._cluster.redis
        num_results = {job_id: redis.xlen(f"rq:results:{job_id}") for job_id in {entry.job_id for entry in journal}}
        for video_id in kept:
            client.delete(f"/v1/videos/{video_id}").raise_for_status()
        return Evidence(receipts, endings, self._events(), journal, num_results, remains_of(self._cluster))

    def _events(self) -> list[VideoEvent]:
        outbox = self._cluster.redis.xrange("wanserve:outbox")
        return [VideoEvent(fields["video_id"], fields["type"]) for _, fields in outbox]


def _waves(orders: Sequence[Order], count: int) -> Iterator[Sequence[Order]]:
    """All orders in so many parts."""
    bounds = [round(len(orders) * part / count) for part in range(count + 1)]
    return (orders[start:end] for start, end in pairwise(bounds))


def _ending(client: httpx.Client, video_id: str) -> Ending:
    video = client.get(f"/v1/videos/{video_id}").raise_for_status().json()
    error_code = video["error"]["code"] if video["error"] else None
    if video["status"] != "completed":
        return Ending(video["status"], error_code, None)
    content = client.get(f"/v1/videos/{video_id}/content").raise_for_status().content
    with av.open(io.BytesIO(content)) as container:
        return Ending(video["status"], error_code, sum(1 for _ in container.decode(video=0)))
