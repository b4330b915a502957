"""Are KEDA's and the Prometheus operator's objects what their schemas ask for? `make validate-kubernetes`.

Kubernetes' own kinds are checked by tests/deploy; these two come as npm packages of validators.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
PACKAGES = ROOT / "build/kubernetes-models/node_modules/@kubernetes-models"
VALIDATORS = {
    "ScaledObject": "keda/keda.sh/v1alpha1/ScaledObject",
    "ServiceMonitor": "prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor",
    "PrometheusRule": "prometheus-operator/monitoring.coreos.com/v1/PrometheusRule",
    "PodMonitor": "prometheus-operator/monitoring.coreos.com/v1/PodMonitor",
}
"""By kind; each a module with a class of that name."""

SCRIPT = """
const { module: path, kind, content } = JSON.parse(require("fs").readFileSync(0, "utf8"));
new (require(path)[kind])(content).validate();
"""


def main() -> int:
    is_wrong = False
    for overlay in sorted(path.name for path in (ROOT / "deploy/k8s/overlays").iterdir()):
        for content in custom_objects(overlay):
            fault = fault_of(content)
            is_wrong |= fault is not None
            sys.stdout.write(f"{overlay}: {content['kind']} {content['metadata']['name']}: {fault or 'valid'}\n")
    return int(is_wrong)


def custom_objects(overlay: str) -> Iterator[dict[str, Any]]:
    """Of the kinds in VALIDATORS, as kustomize renders them."""
    kubectl = Path(sys.executable).with_name("kubectl")
    command = [str(kubectl), "kustomize", str(ROOT / "deploy/k8s/overlays" / overlay)]
    rendered = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    yield from (content for content in yaml.safe_load_all(rendered) if content["kind"] in VALIDATORS)


def fault_of(content: dict[str, Any]) -> str | None:
    """What the validator says; None: nothing."""
    kind = content["kind"]
    asked = json.dumps({"module": str(PACKAGES / VALIDATORS[kind]), "kind": kind, "content": content})
    done = subprocess.run(["node", "-e", SCRIPT], input=asked, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    return next((line for line in done.stderr.splitlines() if "Error" in line), done.stderr[-500:])


if __name__ == "__main__":
    sys.exit(main())
