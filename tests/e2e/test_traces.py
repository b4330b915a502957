"""One trace from POST to upload: a real gateway and a real worker send their spans to a receiver that speaks OTLP."""

import gzip
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from service.errors import SettingsError
from service.settings import Settings
from service.tracing import make_tracing
from tests.e2e.conftest import Workers
from tests.service.api.conftest import serving

TRACE_ID, CALLERS_SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
STAGES = ["text", "denoise", "decode", "encode", "upload"]
WaitUntil = Callable[..., None]


class Collector:
    """What a collector was sent."""

    def __init__(self, port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"
        self.spans: list[tuple[str, Span]] = []
        """Each with the name of the service that sent it."""

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            names = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [(names["service.name"], span) for span in scope.spans]

    def named(self, name: str) -> Span:
        [span] = [span for _, span in self.spans if span.name == name]
        return span


@contextmanager
def collecting() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/v1/traces"
            collector.take(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            reply = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class' name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(server.server_port)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture
def settings(settings: Settings, collector: Collector, free_port: Callable[[], int]) -> Settings:
    return settings.with_changes(otlp_endpoint=collector.endpoint, port=free_port())


def test_a_callers_trace_goes_on_through_gateway_queue_and_worker(
    workers: Workers, settings: Settings, collector: Collector, wait_until: WaitUntil
) -> None:
    workers.start()
    with serving(settings), httpx.Client(base_url=f"http://127.0.0.1:{settings.port}", timeout=30) as client:
        wait_until(lambda: client.get("/health").status_code == 200)
        video = client.post(
            "/v1/videos",
            json={"prompt": "a red ball", "num_inference_steps": 4},
            headers={"traceparent": f"00-{TRACE_ID}-{CALLERS_SPAN}-01"},
        ).json()
        wait_until(lambda: client.get(f"/v1/videos/{video['id']}").json()["status"] == "completed")
    wait_until(lambda: {"job", "POST /videos"} <= {span.name for _, span in collector.spans})

    assert {span.trace_id.hex() for _, span in collector.spans} == {TRACE_ID}
    post, job = collector.named("POST /videos"), collector.named("job")
    assert (post.parent_span_id.hex(), post.kind) == (CALLERS_SPAN, Span.SPAN_KIND_SERVER)
    assert [collector.named(name).parent_span_id for name in ("job", "queue")] == [post.span_id] * 2
    stages = [collector.named(name) for name in STAGES]
    assert {stage.parent_span_id for stage in stages} == {job.span_id}
    times = [time for stage in stages for time in (stage.start_time_unix_nano, stage.end_time_unix_nano)]
    assert times == sorted(times)
    assert (times[0], times[-1]) == (job.start_time_unix_nano, job.end_time_unix_nano)
    assert {(service, span.name) for service, span in collector.spans} >= {
        ("wanserve-gateway", "POST /videos"),
        ("wanserve-worker", "upload"),
    }
    said = {each.key: each.value.string_value for each in job.attributes}
    assert said["wanserve.outcome"] == "completed"
    assert "a red ball" not in str(collector.spans)


def test_polls_leave_no_span_and_errors_of_ours_are_marked(settings: Settings, collector: Collector) -> None:
    away = settings.with_changes(redis_url="redis://127.0.0.1:1")
    with serving(away), httpx.Client(base_url=f"http://127.0.0.1:{settings.port}", timeout=30) as client:
        client.get("/v1/videos")
        assert client.post("/v1/videos", json={"prompt": "a red ball"}).status_code == 503

    [(_, span)] = collector.spans
    assert (span.name, span.status.code, span.parent_span_id) == ("POST /videos", Status.STATUS_CODE_ERROR, b"")


def test_a_malformed_parent_begins_a_trace_of_its_own(settings: Settings, collector: Collector) -> None:
    tracing = make_tracing(settings, role="worker")
    tracing.start("job", parent="no traceparent", at=1.0).end(at=2.5, attributes={})
    tracing.close()

    [(_, span)] = collector.spans
    assert span.parent_span_id == b""
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (1_000_000_000, 2_500_000_000)


def test_without_the_extra_the_start_says_what_to_install(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)

    with pytest.raises(SettingsError, match=r"pip install 'wanserve\[tracing\]'"):
        make_tracing(settings, role="gateway")
