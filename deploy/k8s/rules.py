"""Writes the rules of deploy/prometheus as the Prometheus operator takes them: `python -m deploy.k8s.rules`."""

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy/k8s/overlays/fleet/rules.yaml"
SOURCES = ("rules.yml", "alerts.yml")
HEAD = "# Written by `python -m deploy.k8s.rules` from deploy/prometheus.\n"


def text() -> str:
    groups: list[dict[str, Any]] = []
    for source in SOURCES:
        groups += yaml.safe_load((ROOT / "deploy/prometheus" / source).read_text())["groups"]
    content = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "wanserve"},
        "spec": {"groups": groups},
    }
    return HEAD + yaml.safe_dump(content, sort_keys=False, width=120)


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
