"""Alerts on metrics that there are, each shown firing and silent, each with a page that says what to do."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry

from deploy.grafana.dashboards import dashboard_json
from deploy.k8s.rules import FILE, text
from service.metrics import GatewayMetrics, WorkerMetrics
from service.panels.dashboards import DASHBOARDS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/prometheus"


@pytest.fixture(scope="module")
def alerts() -> dict[str, dict[str, object]]:
    [group] = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


@pytest.fixture(scope="module")
def recorded() -> dict[str, str]:
    """Expressions by the name of the series that keeps them."""
    groups = yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"]
    return {rule["record"]: rule["expr"] for group in groups for rule in group["rules"]}


@pytest.fixture(scope="module")
def metric_names() -> set[str]:
    registry = CollectorRegistry()
    GatewayMetrics(registry)
    names = {name for name, _ in _described(registry)}
    workers = CollectorRegistry()
    WorkerMetrics(workers)
    return names | {name for name, _ in _described(workers)}


def _described(registry: CollectorRegistry) -> list[tuple[str, str]]:
    found = []
    for family in registry.collect():
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
        found += [(family.name + suffix, family.type) for suffix in suffixes]
    return found


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "rules", "rules.yml", "alerts.yml"],
        ["check", "config", "--syntax-only", "prometheus.yml"],
        ["test", "rules", "alerts.test.yml"],
    ],
)
def test_promtool_finds_no_fault(arguments: list[str]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool: Debian's package prometheus has it")
    done = subprocess.run([promtool, *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_panels_and_recorded_series_ask_for_metrics_that_are_there(
    alerts: dict[str, dict[str, object]], recorded: dict[str, str], metric_names: set[str]
) -> None:
    panels = {panel.id: query.expr for each in DASHBOARDS for panel in each.panels for query in panel.queries}
    for name, expr in ({name: str(rule["expr"]) for name, rule in alerts.items()} | recorded | panels).items():
        asked = set(re.findall(r"\bwanserve[_:][a-z0-9_:]+", expr))
        assert asked, name
        assert asked <= metric_names | set(recorded), name


def test_committed_dashboards_are_those_of_the_panels() -> None:
    written = {file.stem: file.read_text() for file in (ROOT / "deploy/grafana/dashboards").glob("*.json")}
    assert written == {each.id: dashboard_json(each) for each in DASHBOARDS}, "run python -m deploy.grafana.dashboards"
    ids = [panel.id for each in DASHBOARDS for panel in each.panels]
    assert len(ids) == len(set(ids))


def test_fleet_scales_by_metrics_that_are_there(metric_names: set[str]) -> None:
    text = (ROOT / "deploy/k8s/overlays/fleet/scaling.yaml").read_text()
    asked = set(re.findall(r"\bwanserve_[a-z0-9_]+", text))
    assert asked
    assert asked <= metric_names


def test_operators_rules_are_those_of_prometheus() -> None:
    assert FILE.read_text() == text(), "run python -m deploy.k8s.rules"


def test_every_alert_is_shown_firing_and_silent(alerts: dict[str, dict[str, object]]) -> None:
    shown: dict[str, set[bool]] = {name: set() for name in alerts}
    for case in yaml.safe_load((FOLDER / "alerts.test.yml").read_text())["tests"]:
        for look in case.get("alert_rule_test", []):
            shown[look["alertname"]].add(bool(look["exp_alerts"]))
    assert {name: seen for name, seen in shown.items() if seen != {True, False}} == {}


def test_every_alert_has_its_runbook(alerts: dict[str, dict[str, object]]) -> None:
    pages = re.findall(r"^## (\w+)$", (ROOT / "docs/runbooks.md").read_text(), re.MULTILINE)
    for name, rule in alerts.items():
        url = str(rule["annotations"]["runbook_url"])  # type: ignore[index]
        assert url.removeprefix("docs/runbooks.md#") in [page.lower() for page in pages], name
