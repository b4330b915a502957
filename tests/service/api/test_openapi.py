"""What /openapi.json promises holds: schemathesis looks for requests for which it does not."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any, get_args

import httpx
import pytest
from redis import Redis

from service.jobs.card import ModelCard
from service.keys import Keys, Scope
from service.settings import Settings
from service.tenants import Tenant, Tenants
from tests.service.api.conftest import FakeWorker, serving
from tests.service.webhooks.receiver import HookReceiver

CONFIG = Path(__file__).with_name("schemathesis.toml")
SECONDS = int(os.environ.get("SCHEMATHESIS_SECONDS", "45"))
JOB_SECONDS = 0.2
SEED = os.environ.get("SCHEMATHESIS_SEED", "1")


@contextmanager
def busy(worker: FakeWorker, card: ModelCard) -> Iterator[None]:
    """Jobs are begun as they come and finished soon after: every state is seen, and every event stream ends."""
    is_over = Event()
    worker.store.register_card(card)

    def work() -> None:
        while not is_over.is_set():
            worker.report_alive(card.id)
            claims = list(iter(worker.claim_if_any, None))
            is_over.wait(JOB_SECONDS)
            for claim in claims:
                worker.complete(claim)

    thread = Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@pytest.fixture
def operator_key(redis: Redis, gateway_settings: Settings) -> str:
    """A key that may do everything."""
    Tenants(redis).create(Tenant(name="acme"))
    return Keys(redis, pepper=gateway_settings.pepper()).create("acme", scopes=get_args(Scope))


def test_schemathesis_finds_no_broken_promise(
    gateway_settings: Settings,
    free_port: Callable[[], int],
    operator_key: str,
    worker: FakeWorker,
    card: ModelCard,
    tmp_path: Path,
) -> None:
    with HookReceiver() as receiver:
        changes = {"port": free_port(), "require_keys": True, "webhook_allowed_ports": str(receiver.port)}
        settings = gateway_settings.with_changes(**changes)
        with serving(settings), busy(worker, card):
            address = f"http://127.0.0.1:{settings.port}"
            document = httpx.get(f"{address}/openapi.json", trust_env=False).json()
            file = tmp_path / "openapi.json"
            bodies = [operation["requestBody"] for operation in operations(document) if "requestBody" in operation]
            for body in bodies:
                body["content"] = with_receiver(body["content"], receiver.url)
            file.write_text(json.dumps(document))
            found = run_schemathesis(file, address, key=operator_key)

    (tmp_path / "found.txt").write_text(found.stdout)
    assert found.returncode == 0, found.stdout[-20_000:]


def run_schemathesis(document: Path, address: str, *, key: str) -> subprocess.CompletedProcess[str]:
    """All checks and phases; positive and negative data."""
    command: list[str | Path] = [Path(sys.executable).with_name("st"), "--config-file", CONFIG, "run", document]
    command += ["--url", address, "--header", f"Authorization: Bearer {key}", "--checks", "all"]
    command += ["--max-time", str(SECONDS), "--seed", SEED, "--request-timeout", "20", "--no-color"]
    return subprocess.run(command, cwd=document.parent, capture_output=True, text=True, check=False, timeout=300)


def operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for methods in document["paths"].values():
        yield from methods.values()


def with_receiver(schema: Any, url: str) -> Any:
    """A body's schema with the one address to which webhooks may go here: its letters alone can't tell."""
    match schema:
        case {"title": "Url", **beside}:
            return {**beside, "enum": [url, None] if "anyOf" in beside else [url], "examples": [url]}
        case dict():
            return {name: with_receiver(member, url) for name, member in schema.items()}
        case list():
            return [with_receiver(member, url) for member in schema]
        case _:
            return schema
