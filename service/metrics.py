"""Every Prometheus metric of gateway and worker. Label values are few: route templates, never ids or raw paths."""

from collections.abc import Callable
from datetime import datetime
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    start_http_server,
)

from service.errors import ServiceError, StartupError
from service.jobs.queue import JobQueue
from service.jobs.reviews import Backlog
from service.jobs.store import VideoStore

STAGES = ("queued", "text", "denoise", "decode", "encode", "upload", "total")
_STAGE_BUCKETS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60, 120, 300, 600, 1200, 3600)
_REQUEST_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


class GatewayMetrics:
    """The gateway's numbers; queue numbers are read from Redis when scraped."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._backlog: Callable[[], Backlog] | None = None
        self.requests = Counter(
            "wanserve_http_requests",
            "HTTP requests answered.",
            ("method", "route", "status"),
            registry=registry,
        )
        self.request_seconds = Histogram(
            "wanserve_http_request_seconds",
            "Seconds from request to the reply's head.",
            ("method", "route"),
            buckets=_REQUEST_BUCKETS,
            registry=registry,
        )
        self.submitted = Counter(
            "wanserve_videos_submitted",
            "Videos accepted: queued, cached, joined or replayed.",
            ("kind",),
            registry=registry,
        )
        self.refused = Counter(
            "wanserve_videos_refused", "Video requests refused, by error code.", ("code",), registry=registry
        )
        self.prompt_extensions = Counter(
            "wanserve_prompt_extensions",
            "Prompts that were to be extended: extended, remembered or failed.",
            ("outcome",),
            registry=registry,
        )
        self.webhook_deliveries = Counter(
            "wanserve_webhook_deliveries",
            "What became of claimed deliveries: delivered, retried, dead or dropped.",
            ("outcome",),
            registry=registry,
        )
        self.audit_entries_lost = Counter(
            "wanserve_audit_entries_lost", "Lines that the audit log's disk did not take.", registry=registry
        )
        self.verdicts = Counter(
            "wanserve_moderation_verdicts",
            "What became of prompts by the filter: allow, review or block; category is none where nothing was seen.",
            ("category", "outcome"),
            registry=registry,
        )
        self.review_decisions = Counter(
            "wanserve_review_decisions",
            "Reviews: approved, rejected, approved_by_timeout or rejected_by_timeout.",
            ("decision",),
            registry=registry,
        )
        self.reviews_pending = Gauge("wanserve_reviews_pending", "Videos that wait for a reviewer.", registry=registry)
        self.oldest_review = Gauge(
            "wanserve_reviews_oldest_age_seconds",
            "How long the oldest waits; 0 without one.",
            registry=registry,
        )
        self.queue_depth = Gauge("wanserve_queue_depth", "Jobs that wait.", registry=registry)
        self.running = Gauge("wanserve_jobs_running", "Jobs that a worker holds.", registry=registry)
        self.workers = Gauge("wanserve_workers_live", "Warm workers that report.", registry=registry)
        self.queue_up = Gauge("wanserve_queue_up", "1 when Redis answered this scrape.", registry=registry)

    def scrape(self, queue: JobQueue, store: VideoStore) -> bytes:
        """The text format. Without Redis the queue's numbers keep their last value and queue_up is 0."""
        try:
            self.queue_depth.set(queue.depth())
            self.running.set(queue.num_running())
            self.workers.set(len(store.live_workers()))
            self._show_reviews()
            self.queue_up.set(1)
        except ServiceError:
            self.queue_up.set(0)
        return generate_latest(self._registry)

    def watch_reviews(self, backlog: Callable[[], Backlog]) -> None:
        """Asked whenever metrics are read."""
        self._backlog = backlog

    def _show_reviews(self) -> None:
        if self._backlog is not None:
            backlog = self._backlog()
            self.reviews_pending.set(backlog.num_pending)
            self.oldest_review.set(backlog.oldest_seconds)


class WorkerMetrics:
    """A worker's numbers."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.finished = Counter(
            "wanserve_jobs_finished",
            "Jobs finished: completed, held, refused, failed, cancelled, released, retried or lost.",
            ("outcome",),
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "wanserve_stage_seconds",
            "Seconds of a completed job by stage.",
            ("stage",),
            buckets=_STAGE_BUCKETS,
            registry=registry,
        )
        self.steps = Counter("wanserve_denoising_steps", "Denoising steps done.", registry=registry)
        self.checkpoints = Counter("wanserve_checkpoints", "States of running jobs saved.", registry=registry)
        self.resumed = Counter("wanserve_jobs_resumed", "Jobs that went on from a saved state.", registry=registry)
        self.reclaimed = Counter(
            "wanserve_jobs_reclaimed", "Jobs taken back from silent workers.", ("action",), registry=registry
        )
        self.ready = Gauge("wanserve_worker_ready", "1 when the model is warm.", registry=registry)
        self.unsigned = Counter("wanserve_files_unsigned", "Videos delivered without a signature.", registry=registry)
        self._certificate_ends = Gauge(
            "wanserve_certificate_expires_timestamp_seconds", "When the signer's certificate ends.", registry=registry
        )

    def watch_certificate(self, expires_at: Callable[[], datetime]) -> None:
        """Asked whenever metrics are read."""
        self._certificate_ends.set_function(lambda: expires_at().timestamp())

    def observe_stages(self, stage_durations: dict[str, float]) -> None:
        """Seconds by stage of one completed job; names beside STAGES are left out."""
        for stage in STAGES:
            if stage in stage_durations:
                self.stage_seconds.labels(stage).observe(stage_durations[stage])


def serve_metrics(registry: CollectorRegistry, *, host: str, port: int) -> tuple[WSGIServer, Thread]:
    """Serve /metrics on a thread until the server's shutdown(). Raises StartupError when the port is taken."""
    try:
        return start_http_server(port, addr=host, registry=registry)
    except OSError as e:
        raise StartupError(
            f"Metrics can't be served on {host}:{port} ({e.strerror}): set another WANSERVE_WORKER_METRICS_PORT."
        ) from e
