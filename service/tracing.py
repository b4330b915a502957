"""Traces by OpenTelemetry, where the extra `tracing` is installed and WANSERVE_OTLP_ENDPOINT names a collector.

OpenTelemetry's own variables set sampling and headers (OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS).
A span is passed on as its traceparent, the header of W3C Trace Context: through Redis it comes to the worker.
"""

from collections.abc import Mapping
from contextvars import ContextVar
from importlib import metadata
from typing import TYPE_CHECKING, Protocol

from service.errors import SettingsError
from service.settings import Settings

if TYPE_CHECKING:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

Attributes = Mapping[str, str | int | float | bool]
EXPORT_SECONDS = 3.0
"""For one batch of spans, and for the last ones at the end of a process."""

_current: ContextVar[str | None] = ContextVar("wanserve_traceparent", default=None)


class Span(Protocol):
    """A part of a trace that goes on until end()."""

    @property
    def traceparent(self) -> str | None:
        """To be passed on to whoever does a part of it; None where nothing is traced."""

    def end(
        self, *, name: str | None = None, at: float | None = None, attributes: Attributes, error: str | None = None
    ) -> None:
        """Once. name: another than at the start. at: Unix seconds; None: now. error: why it failed."""


class Tracing(Protocol):
    """Threads may share it."""

    def start(self, name: str, *, parent: str | None, at: float | None = None, is_server: bool = False) -> Span:
        """parent: a traceparent; None or a malformed one begins a trace. at: Unix seconds; None: now."""

    def close(self) -> None:
        """Sends what is left, for some seconds at most."""


def current_traceparent() -> str | None:
    """Of the span around the caller; None without one."""
    return _current.get()


def make_current(span: Span) -> None:
    """For the rest of this context: a request has one of its own."""
    _current.set(span.traceparent)


def make_tracing(settings: Settings, *, role: str) -> Tracing:
    """role: gateway or worker. Raises SettingsError where a collector is named and the extra is not installed."""
    return NO_TRACING if settings.otlp_endpoint is None else OpenTelemetry(_provider(settings.otlp_endpoint, role))


class NoTracing:
    """Where no collector is named."""

    def start(self, name: str, *, parent: str | None, at: float | None = None, is_server: bool = False) -> "NoSpan":
        return NO_SPAN

    def close(self) -> None:
        return None


class NoSpan:
    traceparent: str | None = None

    def end(
        self, *, name: str | None = None, at: float | None = None, attributes: Attributes, error: str | None = None
    ) -> None:
        return None


NO_SPAN, NO_TRACING = NoSpan(), NoTracing()


class OpenTelemetry:
    """Spans go to the collector in batches, from a thread of their own."""

    def __init__(self, provider: "TracerProvider") -> None:
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("wanserve", metadata.version("wanserve"))
        self._propagator = TraceContextTextMapPropagator()
        self._kinds = {True: SpanKind.SERVER, False: SpanKind.INTERNAL}

    def close(self) -> None:
        self._provider.shutdown()

    def start(
        self, name: str, *, parent: str | None, at: float | None = None, is_server: bool = False
    ) -> "OpenTelemetrySpan":
        from opentelemetry.context import Context

        # Never that of this thread: what is no child of a request is none of it.
        context = self._propagator.extract({} if parent is None else {"traceparent": parent}, context=Context())
        kind = self._kinds[is_server]
        return OpenTelemetrySpan(self._tracer.start_span(name, context=context, kind=kind, start_time=_nanoseconds(at)))


class OpenTelemetrySpan:
    def __init__(self, span: "trace.Span") -> None:
        self._span = span

    @property
    def traceparent(self) -> str:
        seen = self._span.get_span_context()
        return f"00-{seen.trace_id:032x}-{seen.span_id:016x}-{seen.trace_flags:02x}"

    def end(
        self, *, name: str | None = None, at: float | None = None, attributes: Attributes, error: str | None = None
    ) -> None:
        from opentelemetry.trace import Status, StatusCode

        if name is not None:
            self._span.update_name(name)
        self._span.set_attributes(attributes)
        if error is not None:
            self._span.set_status(Status(StatusCode.ERROR, error))
        self._span.end(_nanoseconds(at))


def _nanoseconds(at: float | None) -> int | None:
    return None if at is None else int(at * 1e9)


def _provider(endpoint: str, role: str) -> "TracerProvider":
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as e:
        raise SettingsError(
            "WANSERVE_OTLP_ENDPOINT is set, but OpenTelemetry is not installed: pip install 'wanserve[tracing]'."
        ) from e
    about = {"service.name": f"wanserve-{role}", "service.version": metadata.version("wanserve")}
    # Whoever made it closes it.
    provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces", timeout=EXPORT_SECONDS)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider
