"""`wanserve reviews`, as someone types it, against a real gateway."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from redis import Redis

from service.cli import main
from service.jobs.execution import Finding
from service.jobs.store import VideoStore
from service.keys import Keys
from service.settings import Settings
from service.tenants import Tenant, Tenants
from tests.service.api.conftest import FakeWorker

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def acme(client: httpx.Client, redis: Redis, gateway_settings: Settings) -> dict[str, str]:
    """Headers of a tenant whose prompts are all reviewed."""
    Tenants(redis).create(Tenant.model_validate({"name": "acme", "moderation": {"review": "everything"}}))
    keys = Keys(redis, pepper=gateway_settings.pepper())
    return {"Authorization": f"Bearer {keys.create('acme', scopes=['create', 'read', 'review'])}"}


@pytest.fixture
def run(
    acme: dict[str, str],
    address: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """run("list") gives exit code, standard output and standard error, with acme's key."""
    monkeypatch.setenv("WANSERVE_SERVER", address)
    monkeypatch.setenv("WANSERVE_API_KEY", acme["Authorization"].removeprefix("Bearer "))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["reviews", *arguments])
        said = capsys.readouterr()
        # Logs of the gateway in this process go where print() goes.
        lines = [line for line in said.out.splitlines() if not re.match(r"\d{4}-\d\d-\d\d \S+ \[", line)]
        return code, "\n".join(lines), said.err

    return run


def submit(client: httpx.Client, headers: dict[str, str], prompt: str) -> str:
    return str(client.post("/v1/videos", json={"prompt": prompt}, headers=headers).json()["id"])


def test_a_prompt_is_listed_shown_and_approved(
    run: Run, client: httpx.Client, acme: dict[str, str], worker: FakeWorker
) -> None:
    submit(client, acme, "a museum piece")
    submit(client, acme, "another piece")

    code, listed, more = run("list", "--limit", "1")
    assert (code, "a museum piece" in listed, "another piece" in listed) == (0, True, False)
    review_id = listed.splitlines()[1].split()[0]
    assert f"--after {review_id}" in more
    assert "another piece" in run("list", "--after", review_id, "--stage", "prompt")[1]
    assert "prompt: a museum piece" in run("show", review_id)[1]

    assert run("approve", review_id, "--reason", "Fine.")[:2] == (0, f"{review_id} is approved.")

    assert worker.claim_if_any() is not None
    assert "approved by" in run("show", review_id)[1]
    decided = json.loads(run("list", "--decided", "--json")[1])["data"]
    assert [review["id"] for review in decided] == [review_id]


def test_a_held_video_is_saved_and_rejected(
    run: Run, client: httpx.Client, acme: dict[str, str], worker: FakeWorker, store: VideoStore, tmp_path: Path
) -> None:
    video_id = submit(client, acme, "a beach")
    run("approve", run("list")[1].splitlines()[1].split()[0])
    claim = worker.claim()
    worker.complete(claim, b"frames", finding=Finding(category="sexual", score=0.9))
    review_id = f"{claim.lease.job_id}-frames"

    code, shown, _ = run("show", review_id, "-o", "held.mp4")
    assert (code, "frames (sexual, 0.90) of acme" in shown) == (0, True)
    assert (tmp_path / "held.mp4").read_bytes() == b"frames"
    code, _, complaint = run("approve", "job_nonsense")
    assert (code, "There is no review" in complaint) == (1, True)

    assert run("reject", review_id, "--reason", "Skin.")[1] == f"{review_id} is rejected."
    error = store.get(video_id).error
    assert error is not None
    assert "Skin." in error.message
