"""Every Prometheus metric of gateway and worker. Label values are few: route templates, never ids or raw paths."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from importlib import metadata
from threading import Thread
from typing import TypeVar
from wsgiref.simple_server import WSGIServer

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
    start_http_server,
)

from service.errors import RecordUnreadable, ServiceError, StartupError
from service.jobs.cache_use import CacheUse
from service.jobs.memory import MemoryUse
from service.jobs.operations import Lane
from service.jobs.queue import JobQueue
from service.jobs.reviews import Backlog
from service.jobs.store import VideoStore
from service.logs import get_logger

log = get_logger(__name__)

STAGES = ("queued", "text", "denoise", "decode", "encode", "upload", "total")
_STAGE_BUCKETS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60, 120, 300, 600, 1200, 3600, 7200)
_STEP_BUCKETS = (0.003, 0.01, 0.03, 0.1, 0.3, 1, 2, 4, 8, 16, 30, 60, 120, 300)
_ROW_BUCKETS = (1, 2, 4, 8, 16, 32, 64)
_CALL_BUCKETS = (0.002, 0.005, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)
_REQUEST_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)

SIZES = ((256 * 256, "256p"), (832 * 480, "480p"), (1280 * 720, "720p"))
"""Pixels of a native picture up to which a clip counts as of that size."""

LENGTHS = (17, 41, 81)
"""And frames."""

Seen = TypeVar("Seen")


def size_bucket(width: int, height: int, num_frames: int) -> str:
    """Like 480p/81: the smallest bucket that holds a clip; "more" beyond the last."""
    size = next((name for pixels, name in SIZES if width * height <= pixels), "more")
    return f"{size}/{next((str(length) for length in LENGTHS if num_frames <= length), 'more')}"


class StorageMetrics:
    """Of the object store, as a process of ours finds it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.calls = Counter(
            "wanserve_storage_calls",
            "Calls to the object store: ok, missing (no such object) or failed.",
            ("operation", "outcome"),
            registry=registry,
        )
        self.seconds = Histogram(
            "wanserve_storage_call_seconds",
            "Seconds of a call, retries included; of a read until its first byte.",
            ("operation",),
            buckets=_CALL_BUCKETS,
            registry=registry,
        )
        self.uploaded = Counter("wanserve_storage_uploaded_bytes", "Bytes of objects put.", registry=registry)
        for operation in ("put", "get", "stat", "delete"):
            self.calls.labels(operation, "ok")
            self.calls.labels(operation, "failed")


class GatewayMetrics:
    """The gateway's numbers; queue numbers are read from Redis when scraped."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._watched: list[Callable[[], None]] = []
        self.storage = StorageMetrics(registry)
        _show_process(registry, role="gateway")
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
        for kind in ("queued", "cached", "joined", "replayed"):
            self.submitted.labels(kind)
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
        for outcome in ("delivered", "retried", "dead", "dropped"):
            self.webhook_deliveries.labels(outcome)
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
        for decision in ("approved", "rejected", "approved_by_timeout", "rejected_by_timeout"):
            self.review_decisions.labels(decision)
        self.reviews_pending = Gauge("wanserve_reviews_pending", "Videos that wait for a reviewer.", registry=registry)
        self.oldest_review = Gauge(
            "wanserve_reviews_oldest_age_seconds",
            "How long the oldest waits; 0 without one.",
            registry=registry,
        )
        self.queue_jobs = Gauge("wanserve_queue_jobs", "Jobs that wait.", ("priority",), registry=registry)
        self.queue_gpu_seconds = Gauge(
            "wanserve_queue_gpu_seconds", "GPU time that waits, as estimated.", ("priority",), registry=registry
        )
        self.queue_oldest = Gauge(
            "wanserve_queue_oldest_age_seconds",
            "How long the oldest job waits; 0 without one.",
            ("priority",),
            registry=registry,
        )
        self.redis_memory = Gauge("wanserve_redis_memory_bytes", "What Redis uses.", registry=registry)
        self.redis_memory_limit = Gauge(
            "wanserve_redis_memory_limit_bytes", "What it may use; 0: as much as there is.", registry=registry
        )
        self.cache_bytes = Gauge("wanserve_cache_bytes", "Of files that the result cache keeps.", registry=registry)
        self.cache_entries = Gauge("wanserve_cache_entries", "Results that the cache keeps.", registry=registry)
        self.budget_used = Gauge(
            "wanserve_tenant_budget_used_ratio",
            "Of the day's GPU seconds of a tenant that has a budget: spent and reserved, 1 is all.",
            ("tenant",),
            registry=registry,
        )
        self.event_streams = Gauge("wanserve_event_streams_open", "Event streams that are open.", registry=registry)
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
            for show in self._watched:
                self._show(show)
            self.queue_up.set(1)
        except ServiceError:
            self.queue_up.set(0)
        return generate_latest(self._registry)

    @staticmethod
    def _show(show: Callable[[], None]) -> None:
        """A record that can't be read keeps its own number back, not those of others."""
        try:
            show()
        except RecordUnreadable as e:
            log.warning("metric_unreadable", reason=e.message)

    def watch(self, read: Callable[[], Seen], show: Callable[[Seen], None]) -> None:
        """Read, which may raise ServiceError, whenever metrics are; show is one of the methods below."""
        self._watched.append(lambda: show(read()))

    def show_lanes(self, lanes: Sequence[Lane]) -> None:
        for priority in {lane.priority for lane in lanes}:
            own = [lane for lane in lanes if lane.priority == priority]
            self.queue_jobs.labels(priority).set(sum(lane.num_jobs for lane in own))
            self.queue_gpu_seconds.labels(priority).set(sum(lane.gpu_seconds for lane in own))
            self.queue_oldest.labels(priority).set(max(lane.oldest_seconds or 0.0 for lane in own))

    def show_memory(self, use: MemoryUse) -> None:
        self.redis_memory.set(use.used_bytes)
        self.redis_memory_limit.set(use.limit_bytes)

    def show_reviews(self, backlog: Backlog) -> None:
        self.reviews_pending.set(backlog.num_pending)
        self.oldest_review.set(backlog.oldest_seconds)

    def show_cache(self, use: CacheUse) -> None:
        self.cache_bytes.set(use.num_bytes)
        self.cache_entries.set(use.num_entries)

    def show_budgets(self, used: Mapping[str, float]) -> None:
        """By tenant, a ratio. Who has no budget any more is left out."""
        self.budget_used.clear()
        for tenant, ratio in used.items():
            self.budget_used.labels(tenant).set(ratio)

    def show_event_streams(self, num_open: int) -> None:
        self.event_streams.set(num_open)


class WorkerMetrics:
    """A worker's numbers."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.storage = StorageMetrics(registry)
        _show_process(registry, role="worker")
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
        for outcome in ("completed", "held", "failed", "cancelled", "released", "retried", "lost"):
            self.finished.labels(outcome)
        self.wait_seconds = Histogram(
            "wanserve_job_wait_seconds",
            "Seconds from submission to a job's start at a worker.",
            ("priority",),
            buckets=_STAGE_BUCKETS,
            registry=registry,
        )
        self.total_seconds = Histogram(
            "wanserve_job_total_seconds",
            "Seconds from submission to the finished files of a job.",
            ("priority",),
            buckets=_STAGE_BUCKETS,
            registry=registry,
        )
        self.step_seconds = Histogram(
            "wanserve_denoising_step_seconds",
            "Seconds of one step of a batch, by native size and most frames.",
            ("size",),
            buckets=_STEP_BUCKETS,
            registry=registry,
        )
        self.batch_rows = Histogram(
            "wanserve_batch_rows",
            "Rows of a forward: two for each request with guidance, one without.",
            buckets=_ROW_BUCKETS,
            registry=registry,
        )
        self.engine_seconds = Counter(
            "wanserve_engine_seconds",
            "Seconds of the engine's thread: steps of each expert, waits for weights (swap), text, decode.",
            ("part",),
            registry=registry,
        )
        self.swaps = Counter("wanserve_expert_swaps", "Steps that waited for an expert's weights.", registry=registry)
        self.in_flight = Gauge(
            "wanserve_jobs_in_flight",
            "Jobs that this worker holds, by what is next: high_noise, low_noise, decode, finishing, or waiting.",
            ("phase",),
            registry=registry,
        )
        for part in ("high_noise", "low_noise", "swap", "text", "decode"):
            self.engine_seconds.labels(part)
        self.device_memory = Gauge(
            "wanserve_device_memory_bytes", "Of the GPU: used and total.", ("kind",), registry=registry
        )
        self.device_busy = Gauge(
            "wanserve_device_utilisation_ratio", "How busy the driver says that the GPU is.", registry=registry
        )
        self.steps = Counter("wanserve_denoising_steps", "Denoising steps done.", registry=registry)
        self.checkpoints = Counter("wanserve_checkpoints", "States of running jobs saved.", registry=registry)
        self.resumed = Counter("wanserve_jobs_resumed", "Jobs that went on from a saved state.", registry=registry)
        self.reclaimed = Counter(
            "wanserve_jobs_reclaimed", "Jobs taken back from silent workers.", ("action",), registry=registry
        )
        for action in ("requeued", "failed", "cancelled"):
            self.reclaimed.labels(action)
        self.ready = Gauge("wanserve_worker_ready", "1 when the model is warm.", registry=registry)
        self.unsigned = Counter("wanserve_files_unsigned", "Videos delivered without a signature.", registry=registry)
        self.untimed = Counter(
            "wanserve_files_untimed", "Videos signed without the timestamp authority's time.", registry=registry
        )
        self._certificate_ends = Gauge(
            "wanserve_certificate_expires_timestamp_seconds", "When the signer's certificate ends.", registry=registry
        )

    def watch_certificate(self, expires_at: Callable[[], datetime]) -> None:
        """Asked whenever metrics are read."""
        self._certificate_ends.set_function(lambda: expires_at().timestamp())

    def observe_batch(self, *, expert: str, num_rows: int, size: str, seconds: float, swap_seconds: float) -> None:
        """One step of one batch; size: of size_bucket()."""
        self.step_seconds.labels(size).observe(seconds - swap_seconds)
        self.batch_rows.observe(num_rows)
        self.engine_seconds.labels(expert).inc(seconds - swap_seconds)
        if swap_seconds:
            self.engine_seconds.labels("swap").inc(swap_seconds)
            self.swaps.inc()

    def show_in_flight(self, num_by_phase: Mapping[str, int]) -> None:
        for phase in ("high_noise", "low_noise", "decode", "finishing", "waiting"):
            self.in_flight.labels(phase).set(num_by_phase.get(phase, 0))

    def watch_device(self, memory: Callable[[], tuple[int, int]], busy: Callable[[], float] | None) -> None:
        """Asked whenever metrics are read. memory: bytes used and in all. busy: 0 to 1; None: nobody can tell."""
        self.device_memory.labels("used").set_function(lambda: memory()[0])
        self.device_memory.labels("total").set_function(lambda: memory()[1])
        if busy is not None:
            self.device_busy.set_function(busy)

    def observe_stages(self, stage_durations: dict[str, float]) -> None:
        """Seconds by stage of one completed job; names beside STAGES are left out."""
        for stage in STAGES:
            if stage in stage_durations:
                self.stage_seconds.labels(stage).observe(stage_durations[stage])


def _show_process(registry: CollectorRegistry, *, role: str) -> None:
    """Its memory, its processor time, and which version it is."""
    ProcessCollector(registry=registry)
    about = Gauge("wanserve_build_info", "1; the labels tell.", ("version", "role"), registry=registry)
    about.labels(metadata.version("wanserve"), role).set(1)


def serve_metrics(registry: CollectorRegistry, *, host: str, port: int) -> tuple[WSGIServer, Thread]:
    """Serve /metrics on a thread until the server's shutdown(). Raises StartupError when the port is taken."""
    try:
        return start_http_server(port, addr=host, registry=registry)
    except OSError as e:
        raise StartupError(
            f"Metrics can't be served on {host}:{port} ({e.strerror}): set another WANSERVE_WORKER_METRICS_PORT."
        ) from e
