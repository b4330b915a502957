"""`wanserve keys`, as an operator types it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis

from service.embedded import EmbeddedServers, borrowed_redis
from service.embedded.process import RunFile
from service.errors import InvalidApiKey
from service.jobs.connection import connect
from service.keys import Keys
from service.settings import Settings
from service.tenants import Tenant, Tenants


def run(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service.cli", "keys", *arguments]
    environment = os.environ | settings.to_environment()
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_a_created_key_is_all_of_standard_output_and_works(settings: Settings, redis: Redis) -> None:
    answer = run(settings, "create", "--tenant", "acme", "--weight", "2", "--max-queued", "5", "--scopes", "admin,read")

    assert answer.returncode == 0
    caller = Keys(redis, pepper=settings.pepper()).check(answer.stdout.removesuffix("\n"))
    assert caller.tenant == Tenant(name="acme", weight=2.0, max_queued=5)
    assert caller.scopes == ("read", "admin")
    assert "shown this once" in answer.stderr


def test_a_second_key_keeps_what_is_not_said_again(settings: Settings, redis: Redis) -> None:
    run(settings, "create", "--tenant", "acme", "--weight", "2", "--max-queued", "5")
    run(settings, "create", "--tenant", "acme", "--weight", "3")
    assert Tenants(redis).get("acme") == Tenant(name="acme", weight=3.0, max_queued=5)

    run(settings, "create", "--tenant", "acme", "--max-queued", "0")

    assert Tenants(redis).get("acme") == Tenant(name="acme", weight=3.0, max_queued=None)


def test_keys_are_listed_without_secrets_and_revoked(settings: Settings, redis: Redis) -> None:
    text = run(settings, "create", "--tenant", "acme").stdout.strip()
    key_id, secret = text.split("_")[1:]

    answer = run(settings, "revoke", key_id)
    listed = run(settings, "list")

    assert answer.stdout == f"The key {key_id} of the tenant acme is revoked.\n"
    [heading, row, tenant] = listed.stdout.splitlines()
    assert heading.split() == ["key", "id", "tenant", "scopes", "per", "minute", "created", "ends", "revoked"]
    assert tenant == "acme: weight 1"
    assert row.startswith(f"{key_id}  acme")
    assert not row.endswith("-")
    assert secret not in listed.stdout
    with pytest.raises(InvalidApiKey):
        Keys(redis, pepper=settings.pepper()).check(text)


def test_keys_made_and_revoked_are_in_the_audit_log(settings: Settings, redis: Redis) -> None:
    text = run(settings, "create", "--tenant", "acme").stdout.strip()
    run(settings, "revoke", text.split("_")[1])

    lines = settings.audit_path.read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    assert [(entry["action"], entry["of_tenant"]) for entry in entries] == [
        ("create_key", "acme"),
        ("revoke_key", "acme"),
    ]
    assert {entry["api_key_id"] for entry in entries} == {text.split("_")[1]}
    assert text.split("_")[2] not in "".join(lines)


def test_an_audit_log_that_can_not_be_written_is_told_and_the_key_is_made(settings: Settings, redis: Redis) -> None:
    answer = run(settings.with_changes(audit_file="/dev/null/audit.jsonl"), "create", "--tenant", "acme")

    assert answer.returncode == 0
    assert "The audit log /dev/null/audit.jsonl was not written" in answer.stderr
    assert Keys(redis, pepper=settings.pepper()).check(answer.stdout.strip()).tenant.name == "acme"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create", "--tenant", "Not A Name"], "lower-case letters"),
        (["create", "--tenant", "acme", "--weight", "0"], "weight"),
        (["create", "--tenant", "acme", "--max-queued", "-1"], "max_queued"),
        (["create", "--tenant", "acme", "--scopes", "root"], "create, read, review, admin"),
        (["create", "--tenant", "acme", "--scopes", ""], "create, read, review, admin"),
        (["revoke", "nothing"], "wanserve keys list"),
    ],
)
def test_a_wrong_word_is_told_and_leaves_nothing_behind(
    settings: Settings, redis: Redis, arguments: list[str], said: str
) -> None:
    answer = run(settings, *arguments)

    assert answer.returncode == 1
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr
    assert redis.keys("*") == []


def test_a_key_under_another_pepper_is_not_made(settings: Settings, redis: Redis, tmp_path: Path) -> None:
    run(settings, "create", "--tenant", "acme")

    answer = run(settings.with_changes(data_dir=tmp_path / "elsewhere"), "create", "--tenant", "acme")

    assert answer.returncode == 1
    assert "WANSERVE_KEY_PEPPER" in answer.stderr
    assert len(Keys(redis, pepper=settings.pepper()).list()) == 1


@pytest.fixture
def valkey_only(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", s3_endpoint="http://127.0.0.1:1")


def test_without_any_server_the_embedded_one_is_borrowed_and_keeps_the_key(valkey_only: Settings) -> None:
    text = run(valkey_only, "create", "--tenant", "acme").stdout.strip()

    run_file = valkey_only.data_dir / "valkey" / "run.json"
    assert not RunFile.model_validate_json(run_file.read_text()).is_alive
    assert not (valkey_only.data_dir / "seaweedfs").exists()
    with borrowed_redis(valkey_only) as url, connect(url) as redis:
        assert Keys(redis, pepper=valkey_only.pepper()).check(text).tenant.name == "acme"


def test_a_running_embedded_server_is_used_and_left_running(valkey_only: Settings) -> None:
    with EmbeddedServers.start(valkey_only) as servers, connect(str(servers.settings.redis_url)) as redis:
        text = run(valkey_only, "create", "--tenant", "acme").stdout.strip()

        assert redis.ping()
        assert Keys(redis, pepper=valkey_only.pepper()).check(text).tenant.name == "acme"


def test_a_key_is_rotated_and_usage_told(settings: Settings, redis: Redis) -> None:
    text = run(settings, "create", "--tenant", "acme", "--daily-gpu-seconds", "60", "--lifetime", "30d").stdout.strip()

    answer = run(settings, "rotate", text.split("_")[1], "--overlap", "1h")

    keys = Keys(redis, pepper=settings.pepper())
    assert keys.check(answer.stdout.strip()).tenant.daily_gpu_seconds == 60
    assert keys.check(text).tenant.name == "acme"
    assert "ends at" in answer.stderr
    assert run(settings, "rotate", text.split("_")[1]).returncode == 1
    assert run(settings, "rotate", text.split("_")[1], "--overlap", "soon").returncode == 2
