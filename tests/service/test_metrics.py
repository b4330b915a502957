"""Metrics: right numbers, few labels."""

from collections.abc import Callable

import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from service.embedded.process import free_ports
from service.errors import StartupError
from service.jobs.connection import connect
from service.jobs.queue import JobQueue
from service.jobs.record import new_execution_id
from service.jobs.store import VideoStore
from service.jobs.submission import Submission
from service.metrics import GatewayMetrics, WorkerMetrics, serve_metrics
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
