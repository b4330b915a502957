"""Dockerfile, docker-compose.yml and deploy/k8s as their own tools read them, and as our settings do."""

import json
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from deploy.k8s.validate import VALIDATORS
from service.environment import FILE, variable_of
from service.settings import Settings

ROOT = Path(__file__).parents[2]
OVERLAYS = ("laptop", "single-gpu", "fleet")
CUSTOM = ("ScaledObject", "ServiceMonitor", "PodMonitor", "PrometheusRule")
"""Kinds of KEDA and the Prometheus operator, which Kubernetes' own schemas don't hold."""

Manifest = dict[str, Any]


def tool(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def known_variables() -> set[str]:
    own = {variable_of(Settings, field) for field in Settings.model_fields}
    return own | {variable + FILE for variable in own}


@pytest.fixture
def compose() -> Manifest:
    """With every variable's own default, as `docker compose config` shows it."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (ROOT / "docker-compose.yml").read_text())
    loaded: Manifest = yaml.safe_load(text)
    return loaded


@pytest.fixture(scope="module")
def rendered() -> dict[str, list[Manifest]]:
    """Every overlay's manifests."""
    found = {}
    for overlay in OVERLAYS:
        command = [tool("kubectl"), "kustomize", str(ROOT / "deploy/k8s/overlays" / overlay)]
        text = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
        found[overlay] = list(yaml.safe_load_all(text))
    return found


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    for manifest in manifests:
        if manifest["kind"] in ("Deployment", "StatefulSet"):
            yield manifest["metadata"]["name"], manifest["spec"]["template"]["spec"]


def test_hadolint_has_nothing_to_say_of_the_dockerfile() -> None:
    done = subprocess.run([tool("hadolint"), str(ROOT / "Dockerfile")], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_compose_file_follows_the_compose_specification(compose: Manifest) -> None:
    read = PyCompose.from_yaml(yaml.safe_dump(compose))
    assert read.services is not None
    assert set(read.services) >= {"gateway", "worker", "worker-gpu", "redis", "objects", "prometheus", "grafana"}


def test_containers_of_ours_can_do_little_and_have_limits(compose: Manifest) -> None:
    for name in ("gateway", "worker", "worker-gpu"):
        service = compose["services"][name]
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    for name, service in compose["services"].items():
        assert "memory" in service["deploy"]["resources"]["limits"], name


def test_every_secret_is_made_once_and_names_its_service(compose: Manifest, tmp_path: Path) -> None:
    make: Callable[[Path], list[str]] = runpy.run_path(str(ROOT / "deploy/secrets.py"))["make_secrets"]

    made = make(tmp_path / "secrets")

    assert {f"./secrets/{name}" for name in made} == {secret["file"] for secret in compose["secrets"].values()}
    password = (tmp_path / "secrets/redis_password").read_text()
    assert (tmp_path / "secrets/redis_url").read_text() == f"redis://:{password}@redis:6379/0"
    identities = json.loads((tmp_path / "secrets/s3_identities").read_text())["identities"]
    assert identities[0]["credentials"][0]["secretKey"] == (tmp_path / "secrets/s3_secret_key").read_text()
    assert make(tmp_path / "secrets") == []
    assert (tmp_path / "secrets/redis_password").read_text() == password


def test_compose_sets_only_what_is_a_setting(compose: Manifest) -> None:
    for name in ("gateway", "worker", "worker-gpu"):
        service = compose["services"][name]
        assert set(service["environment"]) <= known_variables()
        used = {value.rpartition("/")[2] for key, value in service["environment"].items() if key.endswith(FILE)}
        assert used == set(service["secrets"])


def test_images_set_only_what_is_a_setting() -> None:
    names = set(re.findall(r"\b(WANSERVE_[A-Z_]+)=", (ROOT / "Dockerfile").read_text()))
    assert names
    assert names <= known_variables()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_manifests_follow_kubernetes_schemas(overlay: str, rendered: dict[str, list[Manifest]], tmp_path: Path) -> None:
    standard = [manifest for manifest in rendered[overlay] if manifest["kind"] not in CUSTOM]
    file = tmp_path / "manifests.yaml"
    file.write_text(yaml.safe_dump_all(standard))
    command = [tool("kubernetes-validate"), "--strict", "-k", "1.33", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_custom_kinds_have_validators() -> None:
    assert set(CUSTOM) == set(VALIDATORS)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_run_with_few_rights_and_are_told_of_no_service(overlay: str, rendered: dict[str, list[Manifest]]) -> None:
    for name, pod in pods(rendered[overlay]):
        assert pod["securityContext"]["runAsNonRoot"], name
        if name in ("gateway", "worker"):
            assert pod["enableServiceLinks"] is False
            # The worker takes eight to hand its jobs back.
            assert pod["terminationGracePeriodSeconds"] >= 15
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"], name
            assert "memory" in container["resources"]["limits"], name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_manifests_set_only_what_is_a_setting(overlay: str, rendered: dict[str, list[Manifest]]) -> None:
    [settings] = [
        manifest["data"]
        for manifest in rendered[overlay]
        if manifest["kind"] == "ConfigMap" and manifest["metadata"]["name"].startswith("settings")
    ]
    assert set(settings) <= known_variables()
    for name, pod in pods(rendered[overlay]):
        if name in ("gateway", "worker"):
            [container] = pod["containers"]
            assert {variable["name"] for variable in container["env"]} <= known_variables()


def test_laptops_valkey_is_as_durable_as_any(rendered: dict[str, list[Manifest]]) -> None:
    [configuration] = [
        manifest["data"]["valkey.conf"]
        for manifest in rendered["laptop"]
        if manifest["kind"] == "ConfigMap" and manifest["metadata"]["name"].startswith("valkey")
    ]
    assert configuration == (ROOT / "deploy/valkey/valkey.conf").read_text()
