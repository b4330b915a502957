"""Every panel has data after a real run that a real Prometheus scraped, and the page /status draws them in Chromium."""

import math
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from playwright.sync_api import Browser, Page, expect

from service.embedded import attach
from service.errors import MetricsUnavailable
from service.jobs.connection import connect
from service.panels.dashboards import DASHBOARDS
from service.panels.panel import Panel, Query
from service.prometheus import Prometheus
from service.settings import Settings
from service.tenants import Tenant, Tenants
from tests.browser.conftest import opened
from tests.service.api.conftest import serving

pytestmark = pytest.mark.browser
PANELS = [panel for dashboard in DASHBOARDS for panel in dashboard.panels]
RULES = Path(__file__).parents[2] / "deploy/prometheus/rules.yml"
PATIENCE_SECONDS = 120


@pytest.fixture(scope="module")
def watched(up_address: str, up_settings: Settings, free_port: Callable[[], int]) -> Settings:
    """Of a second gateway before the same worker and stores, which knows a Prometheus."""
    return attach(up_settings).with_changes(port=free_port(), prometheus_url=f"http://127.0.0.1:{free_port()}")


@pytest.fixture(scope="module")
def prometheus(watched: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    binary, folder = shutil.which("prometheus"), tmp_path_factory.mktemp("prometheus")
    if binary is None:
        pytest.skip("no prometheus: Debian's package prometheus has it")
    targets = {"gateway": watched.port, "worker": watched.worker_metrics_port}
    (folder / "prometheus.yml").write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(RULES)],
                "scrape_configs": [
                    {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
                    for name, port in targets.items()
                ],
            }
        )
    )
    assert watched.prometheus_url is not None
    command = [binary, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    command.append(f"--web.listen-address={watched.prometheus_url.removeprefix('http://')}")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    client = Prometheus(watched.prometheus_url)
    try:
        yield client
    finally:
        client.close()
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture(scope="module")
def panels_with_data(watched: Settings, prometheus: Prometheus) -> set[str]:
    """After videos that were made, joined, answered from the cache and refused, whose queries give a number."""
    assert watched.redis_url is not None
    with connect(watched.redis_url) as redis:
        Tenants(redis).create(Tenant(name="with-a-budget", daily_gpu_seconds=1000))
    with serving(watched), httpx.Client(base_url=f"http://127.0.0.1:{watched.port}", timeout=30) as client:
        give_up_at, seed = time.monotonic() + PATIENCE_SECONDS, 0
        while True:
            seed += 1
            use(client, seed)
            found = {panel.id for panel in PANELS if all(has_data(prometheus, query) for query in panel.queries)}
            if len(found) >= sum(not panel.needs_gpu for panel in PANELS) or time.monotonic() > give_up_at:
                return found


def use(client: httpx.Client, seed: int) -> None:
    body = {"prompt": "a red ball bouncing on a blue background", "seed": seed, "num_inference_steps": 4}
    for _ in range(2):
        video_id = client.post("/v1/videos", json=body).json()["id"]
    client.post("/v1/videos", json={"prompt": "how to build a pipe bomb"})
    client.get("/v1/videos/video_missing")
    while client.get(f"/v1/videos/{video_id}").json()["status"] != "completed":
        time.sleep(0.2)
    client.get(f"/v1/videos/{video_id}/content")


def has_data(prometheus: Prometheus, query: Query) -> bool:
    try:
        series = prometheus.curves(query, seconds=60)
    except MetricsUnavailable:
        # It is still starting.
        return False
    return any(math.isfinite(value) for each in series for _, value in each.points)


@pytest.mark.parametrize("panel", [panel for panel in PANELS if not panel.needs_gpu], ids=lambda panel: panel.id)
def test_panel_shows_data_of_a_real_run(panels_with_data: set[str], panel: Panel) -> None:
    assert panel.id in panels_with_data


@pytest.fixture
def status_page(browser: Browser, watched: Settings, panels_with_data: set[str]) -> Iterator[Page]:
    with serving(watched), opened(browser, f"http://127.0.0.1:{watched.port}") as page:
        page.goto(f"http://127.0.0.1:{watched.port}/status")
        yield page


def test_page_draws_every_panel_and_says_its_latest_values(status_page: Page) -> None:
    for panel in PANELS:
        state = "empty" if panel.needs_gpu else "drawn"
        expect(status_page.locator(f"#panel-{panel.id}")).to_have_attribute("data-state", state)

    waits = status_page.locator("#panel-waits").get_by_role("img")
    expect(waits).to_have_attribute("aria-label", re.compile(r"^Wait before the start, p95: standard \d"))


def test_page_shows_another_span_and_tells_an_outage(status_page: Page, watched: Settings) -> None:
    expect(status_page.locator("#panel-requests")).to_have_attribute("data-state", "drawn")
    status_page.get_by_label("Show the last").select_option("900")
    expect(status_page.locator("#panel-requests svg")).to_contain_text("15 min ago")

    status_page.route("**/status/panels/*", lambda route: route.fulfill(status=503, json=REFUSAL))
    status_page.get_by_label("Show the last").select_option("3600")
    expect(status_page.get_by_role("status")).to_contain_text("Prometheus does not answer")


REFUSAL = {"error": {"code": "metrics_unavailable", "message": "Prometheus does not answer.", "param": None}}


def test_page_without_a_prometheus_says_what_to_set(browser: Browser, up_address: str) -> None:
    with opened(browser, up_address) as page:
        page.goto(f"{up_address}/status")
        expect(page.get_by_role("status")).to_contain_text("set WANSERVE_PROMETHEUS_URL")


def test_page_asks_for_an_operators_key_where_keys_are_needed(
    browser: Browser, strict_address: str, make_key: Callable[[], str]
) -> None:
    with opened(browser, strict_address) as page:
        page.goto(f"{strict_address}/status")
        expect(page.get_by_label("API key", exact=True)).to_be_focused()
        page.get_by_label("API key", exact=True).fill(make_key())
        page.get_by_role("button", name="Open").click()
        expect(page.get_by_role("status")).to_contain_text("admin")
