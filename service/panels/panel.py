"""What a panel of the dashboards and of the status page is, and the queries that most of them ask. Pure.

Metrics are defined in metrics.py, recorded series in deploy/prometheus/rules.yml.
"""

from dataclasses import dataclass
from typing import Literal

Unit = Literal["count", "per_second", "seconds", "ratio", "bytes"]


@dataclass(frozen=True, slots=True)
class Query:
    """PromQL; legend: a label in double braces stands for its value."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    id: str
    """Of letters, digits and hyphens; unique."""

    title: str
    about: str
    """What to read from it."""

    unit: Unit
    queries: tuple[Query, ...]
    needs_gpu: bool = False
    """Without a GPU there is nothing to show."""


@dataclass(frozen=True, slots=True)
class Dashboard:
    id: str
    title: str
    panels: tuple[Panel, ...]


def rate(counter: str, *, by: str, where: str = "") -> Query:
    """A counter's growth a second, by a label."""
    return Query(f"sum by ({by}) (rate({counter}{{{where}}}[5m]))", f"{{{{{by}}}}}")


def quantile(share: float, histogram: str, *, by: str = "", window: str = "5m") -> Query:
    """Of a histogram, by a label or in all."""
    labels = f"le, {by}" if by else "le"
    expr = f"histogram_quantile({share}, sum by ({labels}) (rate({histogram}_bucket[{window}])))"
    percent = f"p{share * 100:g}"
    return Query(expr, f"{percent} {{{{{by}}}}}" if by else percent)
