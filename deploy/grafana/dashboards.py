"""Writes Grafana's dashboards from service/panels: `python -m deploy.grafana.dashboards`."""

import json
from pathlib import Path
from typing import Any

from service.panels.dashboards import DASHBOARDS
from service.panels.panel import Dashboard, Panel, Unit

FOLDER = Path(__file__).with_name("dashboards")
SOURCE = {"type": "prometheus", "uid": "prometheus"}
UNITS: dict[Unit, str] = {
    "count": "short",
    "per_second": "cps",
    "seconds": "s",
    "ratio": "percentunit",
    "bytes": "bytes",
}
WIDTH, HEIGHT, COLUMNS = 8, 8, 3


def dashboard_json(dashboard: Dashboard) -> str:
    """As Grafana imports and provisions it."""
    content = {
        "uid": f"wanserve-{dashboard.id}",
        "title": f"wanserve: {dashboard.title}",
        "tags": ["wanserve"],
        "schemaVersion": 41,
        "editable": False,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "links": [{"type": "dashboards", "tags": ["wanserve"], "title": "wanserve", "asDropdown": False}],
        "panels": [_panel(panel, place) for place, panel in enumerate(dashboard.panels)],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _panel(panel: Panel, place: int) -> dict[str, Any]:
    row, column = divmod(place, COLUMNS)
    return {
        "id": place + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "gridPos": {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": UNITS[panel.unit], "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + n), "datasource": SOURCE, "expr": query.expr, "legendFormat": query.legend}
            for n, query in enumerate(panel.queries)
        ],
    }


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for each in DASHBOARDS:
        (FOLDER / f"{each.id}.json").write_text(dashboard_json(each), encoding="utf-8")
