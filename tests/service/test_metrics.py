"""Metrics: right numbers, few labels."""

from collections.abc import Callable

import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from service.embedded.process import free_ports
from service.errors import RecordUnreadable, StartupError
from service.jobs.connection import connect
from service.jobs.memory import memory_use
from service.jobs.operations import Operations
from service.jobs.queue import JobQueue
from service.jobs.record import new_execution_id
from service.jobs.store import VideoStore
from service.jobs.submission import Submission
from service.metrics import GatewayMetrics, WorkerMetrics, serve_metrics, size_bucket
from service.settings import Settings
from tests.conftest import FINGERPRINT


def values(text: str) -> dict[str, float]:
    """Samples without labels."""
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.labels
    }


def test_a_scrape_shows_the_queue(queue: JobQueue, store: VideoStore, submission: Callable[..., Submission]) -> None:
    for i in range(3):
        queue.submit(submission(f"ball {i}"))
    queue.claim(worker="w1", fingerprint=FINGERPRINT, execution_id=new_execution_id())

    shown = values(GatewayMetrics(CollectorRegistry()).scrape(queue, store).decode())

    assert shown["wanserve_queue_depth"] == 2
    assert shown["wanserve_jobs_running"] == 1
    assert shown["wanserve_workers_live"] == 0
    assert shown["wanserve_queue_up"] == 1


def test_what_waits_is_told_by_priority_with_its_gpu_time_and_age(
    queue: JobQueue, store: VideoStore, redis: Redis, submission: Callable[..., Submission]
) -> None:
    for seconds in (30.0, 12.0):
        asked = submission(f"ball {seconds}", priority="bulk").model_copy(
            update={"expected_seconds": seconds, "priority": "bulk"}
        )
        queue.submit(asked)
    metrics = GatewayMetrics(CollectorRegistry())
    metrics.watch(Operations(redis).lanes, metrics.show_lanes)
    metrics.watch(lambda: memory_use(redis), metrics.show_memory)

    shown = by_priority(metrics.scrape(queue, store).decode())

    assert shown["wanserve_queue_jobs"] == {"interactive": 0, "standard": 0, "bulk": 2}
    assert shown["wanserve_queue_gpu_seconds"] == {"interactive": 0, "standard": 0, "bulk": 42}
    assert 0 < shown["wanserve_queue_oldest_age_seconds"]["bulk"] < 60
    assert values(metrics.scrape(queue, store).decode())["wanserve_redis_memory_bytes"] > 0


def by_priority(text: str) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if "priority" in sample.labels:
                found.setdefault(sample.name, {})[sample.labels["priority"]] = sample.value
    return found


def test_a_scrape_without_redis_still_answers(settings: Settings) -> None:
    with connect("redis://127.0.0.1:1/0") as nobody:
        text = GatewayMetrics(CollectorRegistry()).scrape(JobQueue(nobody, settings), VideoStore(nobody))

    assert values(text.decode())["wanserve_queue_up"] == 0


def test_stages_outside_the_list_make_no_label() -> None:
    registry = CollectorRegistry()

    WorkerMetrics(registry).observe_stages({"denoise": 2.0, "job_123": 1.0})

    assert registry.get_sample_value("wanserve_stage_seconds_sum", {"stage": "denoise"}) == 2.0
    assert registry.get_sample_value("wanserve_stage_seconds_count", {"stage": "job_123"}) is None


def test_metrics_are_served_and_a_taken_port_is_a_clear_error() -> None:
    registry = CollectorRegistry()
    WorkerMetrics(registry).ready.set(1)
    port = free_ports(["port"])["port"]
    server, thread = serve_metrics(registry, host="127.0.0.1", port=port)
    try:
        assert "wanserve_worker_ready 1.0" in httpx.get(f"http://127.0.0.1:{port}/metrics").text
        with pytest.raises(StartupError, match="WANSERVE_WORKER_METRICS_PORT"):
            serve_metrics(registry, host="127.0.0.1", port=port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("clip", "bucket"),
    [
        ((64, 64, 17), "256p/17"),
        ((832, 480, 81), "480p/81"),
        ((480, 832, 41), "480p/41"),
        ((1280, 720, 18), "720p/41"),
        ((1920, 1080, 161), "more/more"),
    ],
)
def test_clips_fall_into_few_buckets(clip: tuple[int, int, int], bucket: str) -> None:
    assert size_bucket(*clip) == bucket


def test_a_step_that_waited_for_weights_counts_the_wait_apart() -> None:
    registry = CollectorRegistry()
    WorkerMetrics(registry).observe_batch(expert="low_noise", num_rows=6, size="480p/81", seconds=5.0, swap_seconds=2.0)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert value("wanserve_engine_seconds_total", part="low_noise") == 3
    assert value("wanserve_engine_seconds_total", part="swap") == 2
    assert value("wanserve_expert_swaps_total") == 1
    assert value("wanserve_batch_rows_sum") == 6
    assert value("wanserve_denoising_step_seconds_sum", size="480p/81") == 3


def test_a_tenant_whose_budget_is_gone_leaves_no_number() -> None:
    registry = CollectorRegistry()
    metrics = GatewayMetrics(registry)
    metrics.show_budgets({"ads": 0.5, "film": 1.25})
    metrics.show_budgets({"film": 1.5})

    def used(tenant: str) -> float | None:
        return registry.get_sample_value("wanserve_tenant_budget_used_ratio", {"tenant": tenant})

    assert (used("ads"), used("film")) == (None, 1.5)


def test_a_record_that_can_not_be_read_keeps_back_its_own_number_alone(queue: JobQueue, store: VideoStore) -> None:
    metrics = GatewayMetrics(CollectorRegistry())

    def budgets() -> dict[str, float]:
        raise RecordUnreadable("The record of the tenant ads can't be read.")

    metrics.watch(budgets, metrics.show_budgets)
    metrics.watch(lambda: 3, metrics.show_event_streams)

    shown = values(metrics.scrape(queue, store).decode())

    assert (shown["wanserve_queue_up"], shown["wanserve_event_streams_open"]) == (1, 3)
