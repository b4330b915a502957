"""Asks a Prometheus for the panels' curves."""

import math
import re
import time
from collections.abc import Callable
from typing import Any

import httpx
from pydantic import BaseModel

from service.errors import MetricsUnavailable
from service.panels.panel import Query

TIMEOUT_SECONDS = 10.0
NUM_POINTS = 120
"""Of a curve."""

_LABEL = re.compile(r"{{\s*(\w+)\s*}}")


class Series(BaseModel):
    """One curve."""

    name: str
    """The query's legend, with its labels' values."""

    points: list[tuple[float, float]]
    """Unix seconds and values; where there was none, no point."""


class Prometheus:
    """At an address of its HTTP interface. Threads may share it; close() it."""

    def __init__(self, url: str, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._http = httpx.Client(base_url=url, timeout=TIMEOUT_SECONDS, trust_env=False)

    def curves(self, query: Query, *, seconds: float) -> list[Series]:
        """Over so many seconds until now. Raises MetricsUnavailable."""
        end = self._clock()
        asked = {"query": query.expr, "start": end - seconds, "end": end, "step": max(1.0, seconds / NUM_POINTS)}
        return [_series(found, query) for found in self._ask("query_range", asked)]

    def close(self) -> None:
        self._http.close()

    def _ask(self, what: str, asked: dict[str, Any]) -> list[dict[str, Any]]:
        try:
            answer = self._http.get(f"/api/v1/{what}", params=asked)
            content = answer.json()
        except (httpx.HTTPError, ValueError) as e:
            raise MetricsUnavailable(
                "Prometheus does not answer: is it up, and is WANSERVE_PROMETHEUS_URL right?", retry_after_seconds=15
            ) from e
        if not isinstance(content, dict) or content.get("status") != "success":
            reason = content.get("error") if isinstance(content, dict) else None
            raise MetricsUnavailable(f"Prometheus refuses the query: {reason}.", retry_after_seconds=15)
        found: list[dict[str, Any]] = content["data"]["result"]
        return found


def _series(found: dict[str, Any], query: Query) -> Series:
    labels: dict[str, str] = found["metric"]
    name = _LABEL.sub(lambda label: labels.get(label[1], ""), query.legend).strip()
    points = ((float(at), float(text)) for at, text in found["values"])
    # A quotient of nothing by nothing is no number.
    return Series(name=name or query.legend, points=[(at, value) for at, value in points if math.isfinite(value)])
