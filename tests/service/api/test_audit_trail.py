"""Which calls leave an audit line, and what it says."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from service.jobs.card import ModelCard
from service.jobs.store import VideoStore
from service.keys import Keys
from service.settings import Settings
from service.tenants import Tenant, Tenants
from tests.service.api.conftest import FakeWorker, serving

Audited = Callable[[int], list[dict[str, Any]]]


@pytest.fixture
def audit_path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
def key(redis: Redis, gateway_settings: Settings, store: VideoStore, card: ModelCard) -> str:
    store.register_card(card)
    Tenants(redis).create(Tenant(name="acme"))
    return Keys(redis, pepper=gateway_settings.pepper()).create("acme")


@pytest.fixture
def keyed(
    gateway_settings: Settings, free_port: Callable[[], int], audit_path: Path, key: str
) -> Iterator[httpx.Client]:
    settings = gateway_settings.with_changes(port=free_port(), require_keys=True, audit_file=audit_path)
    headers = {"Authorization": f"Bearer {key}"}
    with serving(settings), httpx.Client(base_url=f"http://127.0.0.1:{settings.port}", headers=headers) as client:
        yield client


@pytest.fixture
def audited(audit_path: Path, wait_until: Callable[..., None]) -> Audited:
    """audited(3) waits for three lines."""

    def lines() -> list[str]:
        return audit_path.read_text().splitlines() if audit_path.exists() else []

    def wait(num: int) -> list[dict[str, Any]]:
        wait_until(lambda: len(lines()) >= num)
        return [json.loads(line) for line in lines()]

    return wait


def test_every_changing_call_says_who_what_and_how_it_ended(
    keyed: httpx.Client, key: str, audited: Audited, worker: FakeWorker
) -> None:
    video_id = keyed.post("/v1/videos", json={"prompt": "a red ball"}).json()["id"]
    keyed.post(f"/v1/videos/{video_id}/cancel")
    keyed.delete(f"/videos/{video_id}")
    keyed.delete(f"/v1/videos/{video_id}")
    keyed.post("/v1/videos", json={"prompt": "a", "seed": "x"}, headers={"x-request-id": "mine"})

    shown = audited(5)
    assert [(entry["action"], entry["outcome"], entry["status"], entry["code"]) for entry in shown] == [
        ("create_video", "done", 200, None),
        ("cancel_video", "done", 200, None),
        ("delete_video", "done", 200, None),
        ("delete_video", "refused", 404, "video_not_found"),
        ("create_video", "refused", 400, "invalid_request"),
    ]
    assert {entry["video_id"] for entry in shown[:4]} == {video_id}
    assert {(entry["tenant"], entry["key_id"]) for entry in shown} == {("acme", key.split("_")[1])}
    assert shown[4]["request_id"] == "mine"


def test_looks_and_paths_that_do_not_exist_leave_no_line(keyed: httpx.Client, audited: Audited) -> None:
    keyed.get("/v1/videos")
    keyed.post("/v1/nothing")
    keyed.post("/v1/models")
    keyed.post("/v1/videos", json={})

    assert [entry["action"] for entry in audited(1)] == ["create_video"]


def test_a_wrong_key_is_told_without_being_written_down(keyed: httpx.Client, audited: Audited) -> None:
    wrong = f"ws_{'0' * 16}_{'0' * 64}"
    keyed.post("/v1/videos", json={"prompt": "a"}, headers={"Authorization": f"Bearer {wrong}"})

    [entry] = audited(1)
    assert (entry["code"], entry["tenant"], entry["key_id"]) == ("invalid_api_key", None, None)
    assert wrong not in json.dumps(entry)


def test_a_blocked_prompt_is_there_by_its_hash_alone(keyed: httpx.Client, audited: Audited) -> None:
    keyed.post("/v1/videos", json={"prompt": "child porn"})

    [entry] = audited(1)
    assert entry["code"] == "moderation_blocked"
    assert len(entry["prompt_sha256"]) == 64
    assert "porn" not in json.dumps(entry)


def test_webhook_endpoints_are_told_too(keyed: httpx.Client, audited: Audited) -> None:
    endpoint_id = keyed.post("/v1/webhook_endpoints", json={"url": "https://example.com/"}).json()["id"]
    keyed.post(f"/v1/webhook_endpoints/{endpoint_id}/rotate_secret")
    keyed.delete(f"/v1/webhook_endpoints/{endpoint_id}")

    shown = audited(3)
    assert [entry["action"] for entry in shown] == ["create_endpoint", "rotate_secret", "delete_endpoint"]
    assert {entry["endpoint_id"] for entry in shown} == {endpoint_id}


def test_a_path_that_can_not_be_written_fails_no_request(
    gateway_settings: Settings, free_port: Callable[[], int], tmp_path: Path, key: str
) -> None:
    (tmp_path / "file").write_text("")
    settings = gateway_settings.with_changes(port=free_port(), audit_file=tmp_path / "file" / "audit.jsonl")
    with serving(settings), httpx.Client(base_url=f"http://127.0.0.1:{settings.port}") as client:
        assert client.post("/v1/videos", json={"prompt": "a red ball"}).status_code == 200
