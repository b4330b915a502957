"""/status: what Prometheus knows, drawn; the panels are those of the dashboards."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from service.api.deps import WithGateway
from service.api.ops import check_operator
from service.errors import NotFound
from service.panels.dashboards import DASHBOARDS
from service.panels.panel import Panel, Unit
from service.prometheus import Series

router = APIRouter(prefix="/status", dependencies=[Depends(check_operator)], include_in_schema=False)
"""The page's own; the page itself is one of pages.py."""

BY_ID = {panel.id: panel for dashboard in DASHBOARDS for panel in dashboard.panels}


class ShownPanel(BaseModel):
    id: str
    title: str
    about: str
    unit: Unit
    needs_gpu: bool


class ShownDashboard(BaseModel):
    id: str
    title: str
    panels: list[ShownPanel]


class Status(BaseModel):
    has_prometheus: bool
    dashboards: list[ShownDashboard]


class Curves(BaseModel):
    series: list[Series]


@router.get("/panels")
def list_panels(gateway: WithGateway) -> Status:
    return Status(
        has_prometheus=gateway.prometheus is not None,
        dashboards=[
            ShownDashboard(id=each.id, title=each.title, panels=[_shown(panel) for panel in each.panels])
            for each in DASHBOARDS
        ],
    )


@router.get("/panels/{panel_id}")
def get_curves(
    gateway: WithGateway, panel_id: str, seconds: Annotated[int, Query(ge=60, le=31 * 24 * 3600)] = 3600
) -> Curves:
    """Of all queries of one panel. Raises MetricsUnavailable."""
    panel = BY_ID.get(panel_id)
    if panel is None:
        raise NotFound(f"There is no panel {panel_id}.", param="panel_id")
    if gateway.prometheus is None:
        raise NotFound("No Prometheus is known here: set WANSERVE_PROMETHEUS_URL.")
    curves = [gateway.prometheus.curves(query, seconds=seconds) for query in panel.queries]
    return Curves(series=[series for each in curves for series in each])


def _shown(panel: Panel) -> ShownPanel:
    return ShownPanel(id=panel.id, title=panel.title, about=panel.about, unit=panel.unit, needs_gpu=panel.needs_gpu)
