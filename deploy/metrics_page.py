"""Writes docs/metrics.md: every metric, from service/metrics.py itself: `python -m deploy.metrics_page`."""

from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from service.metrics import GatewayMetrics, WorkerMetrics
from service.panels.dashboards import DASHBOARDS

PAGE = Path(__file__).parent.parent / "docs" / "metrics.md"
HEAD = """# Metrics

A gateway serves `/metrics` (where keys are needed to a key with the scope admin), a worker on
`WANSERVE_WORKER_METRICS_PORT`. Numbers of the queue are read from Redis when a gateway is scraped, each at a cost that
does not grow with the queue; every gateway tells the same, so take the maximum over gateways, not the sum. Labels have
few values: route templates, outcomes, never ids. Beside these, both show `process_*`. `python -m deploy.metrics_page`
writes this page.

"""
DASHBOARDS_HEAD = """## Dashboards

The four in `deploy/grafana/dashboards` come from service/panels (`python -m deploy.grafana.dashboards`), whose
panels the page `/status` draws too (`WANSERVE_PROMETHEUS_URL`). tests/browser/test_status.py runs every query against a
Prometheus that scraped a real run. The two of a GPU have data only where there is one.

| dashboard | panel | what to read from it |
|---|---|---|
"""
TABLE = "| metric | kind | labels | what it counts |\n|---|---|---|---|\n"
SUFFIXES = {"counter": "_total"}


def page() -> str:
    parts = [HEAD]
    for title, kind in (("Gateway", GatewayMetrics), ("Worker", WorkerMetrics)):
        registry = CollectorRegistry()
        kind(registry)
        parts.append(f"## {title}\n\n{TABLE}" + "".join(f"{row}\n" for row in _rows(registry)) + "\n")
    parts.append(DASHBOARDS_HEAD)
    parts += [f"| {each.title} | {panel.title} | {panel.about} |\n" for each in DASHBOARDS for panel in each.panels]
    return "".join(parts)


def _rows(registry: CollectorRegistry) -> Iterator[str]:
    metrics = (each for each in registry._collector_to_names if isinstance(each, MetricWrapperBase))
    for metric in metrics:
        kind = metric._type
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        yield f"| `{metric._name}{SUFFIXES.get(kind, '')}` | {kind} | {labels} | {metric._documentation} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
