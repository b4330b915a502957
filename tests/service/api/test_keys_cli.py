"""`wanserve keys --server`: the desk of another machine."""

from collections.abc import Callable

import httpx
import pytest

from service.cli import main
from service.jobs.store import VideoStore
from service.keys import Keys
from service.settings import Settings
from service.tenants import Tenant, Tenants

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    client: httpx.Client,
    address: str,
    gateway_settings: Settings,
    store: VideoStore,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """run("list") gives exit code, standard output and standard error; asks with a key that has the scope admin."""
    Tenants(store._redis).create(Tenant(name="ops"))
    key = Keys(store._redis, pepper=gateway_settings.pepper()).create("ops", scopes=["admin"])
    monkeypatch.setenv("WANSERVE_API_KEY", key)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["keys", *arguments, "--server", address])
        said = capsys.readouterr()
        # Logs of the gateway in this process go where print() goes.
        return code, "\n".join(line for line in said.out.splitlines() if " [" not in line), said.err

    return run


def test_keys_of_another_machine_are_made_listed_rotated_and_revoked(run: Run, client: httpx.Client) -> None:
    code, key, told = run("create", "--tenant", "acme", "--max-queued", "5", "--lifetime", "1d")
    assert code == 0
    assert "at most 5 jobs wait" in told
    assert client.get("/v1/videos", headers={"Authorization": f"Bearer {key}"}).status_code == 200
    run("create", "--tenant", "acme", "--weight", "2")

    code, rotated, told = run("rotate", key.split("_")[1], "--overlap", "2h")
    assert code == 0
    assert client.get("/v1/videos", headers={"Authorization": f"Bearer {rotated}"}).status_code == 200

    assert run("revoke", rotated.split("_")[1])[0] == 0
    code, listed, _ = run("list")
    assert "acme: weight 2, at most 5 jobs wait" in listed
    [row] = [line for line in listed.splitlines() if line.startswith(rotated.split("_")[1])]
    assert not row.endswith("-")


def test_who_may_not_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    _, key, _ = run("create", "--tenant", "acme")
    monkeypatch.setenv("WANSERVE_API_KEY", key)

    code, _, told = run("list")

    assert code == 1
    assert "needs admin" in told
