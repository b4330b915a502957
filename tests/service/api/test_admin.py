"""Tenants and keys over HTTP, and the limits that they set: what an operator does without a shell."""

import io
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from PIL import Image

from service.api.auth import PREFIX
from service.jobs.store import VideoStore
from service.keys import Keys
from service.settings import Settings
from service.tenants import Tenant, Tenants
from tests.service.api.conftest import FakeWorker

Headers = dict[str, str]


@pytest.fixture
def admin(client: httpx.Client, gateway_settings: Settings, store: VideoStore) -> Iterator[httpx.Client]:
    """The same gateway, asked with a key that has the scope admin."""
    redis = store._redis
    Tenants(redis).create(Tenant(name="ops"))
    key = Keys(redis, pepper=gateway_settings.pepper()).create("ops", scopes=["admin"])
    with httpx.Client(base_url=client.base_url, timeout=30, trust_env=False, headers=bearer(key)) as opened:
        yield opened


@pytest.fixture
def make_key(admin: httpx.Client) -> Callable[..., str]:
    """make_key(requests_per_minute=3) is a key of the tenant acme, made over HTTP."""

    def make(**fields: object) -> str:
        if "acme" not in [tenant["name"] for tenant in admin.get("/v1/admin/tenants").json()["data"]]:
            assert admin.put("/v1/admin/tenants/acme", json={}).status_code == 200
        created = admin.post("/v1/admin/keys", json={"tenant": "acme", **fields})
        assert created.status_code == 200, created.text
        return str(created.json()["key"])

    return make


def bearer(key: str) -> Headers:
    return {"Authorization": f"Bearer {key}"}


def id_of(key: str) -> str:
    return key.removeprefix(PREFIX).split("_")[0]


def test_a_key_is_made_shown_once_listed_rotated_and_revoked(
    admin: httpx.Client, client: httpx.Client, make_key: Callable[..., str]
) -> None:
    key = make_key(scopes=["read"], lifetime_seconds=3600)
    assert client.get("/v1/videos", headers=bearer(key)).status_code == 200

    rotated = admin.post(f"/v1/admin/keys/{id_of(key)}/rotate", json={"overlap_seconds": 600}).json()

    assert client.get("/v1/videos", headers=bearer(rotated["key"])).status_code == 200
    listed = {each["id"]: each for each in admin.get("/v1/admin/keys").json()["data"]}
    old = listed[id_of(key)]
    assert (old["replaced_by"], old["is_active"], old["scopes"]) == (rotated["id"], True, ["read"])
    assert old["expires_at"] == pytest.approx(time.time() + 600, abs=5)
    assert listed[rotated["id"]]["expires_at"] == pytest.approx(time.time() + 3600, abs=5)
    assert all("key" not in each and "digest" not in each for each in listed.values())

    assert admin.delete(f"/v1/admin/keys/{rotated['id']}").json()["is_active"] is False
    assert admin.delete(f"/v1/admin/keys/{rotated['id']}").status_code == 200
    assert admin.post(f"/v1/admin/keys/{rotated['id']}/rotate", json={}).status_code == 409


def test_without_an_admins_key_nothing_of_it_opens_on_loopback_either(
    client: httpx.Client, make_key: Callable[..., str]
) -> None:
    key = make_key()
    for method, path in (("GET", "/v1/admin/keys"), ("POST", "/v1/admin/keys"), ("PUT", "/v1/admin/tenants/acme")):
        keyless = client.request(method, path, json={} if method != "GET" else None)
        assert (keyless.status_code, keyless.json()["error"]["code"]) == (401, "missing_api_key")
        assert "--scopes admin" in keyless.json()["error"]["message"]
        other = client.request(method, path, json={} if method != "GET" else None, headers=bearer(key))
        assert (other.status_code, other.json()["error"]["code"]) == (403, "insufficient_scope")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "tenant"),
        ({"tenant": 7}, "tenant"),
        ({"tenant": "acme", "scopes": []}, "scopes"),
        ({"tenant": "acme", "scopes": ["root"]}, "scopes"),
        ({"tenant": "acme", "lifetime_seconds": 1}, "lifetime_seconds"),
        ({"tenant": "acme", "lifetime_seconds": 1.5}, "lifetime_seconds"),
        ({"tenant": "acme", "requests_per_minute": 0}, "requests_per_minute"),
        ({"tenant": "acme", "secret": "mine"}, "secret"),
    ],
)
def test_a_wrong_key_is_refused_with_its_field(
    admin: httpx.Client, make_key: Callable[..., str], body: dict[str, object], param: str
) -> None:
    make_key()
    before = admin.get("/v1/admin/keys").json()

    refused = admin.post("/v1/admin/keys", json=body)

    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    assert admin.get("/v1/admin/keys").json() == before


@pytest.mark.parametrize(
    ("name", "body", "param"),
    [
        ("Not A Name", {}, "name"),
        ("acme", {"weight": 0}, "weight"),
        ("acme", {"weight": "NaN"}, "weight"),
        ("acme", {"weight": True}, "weight"),
        ("acme", {"max_queued": 0}, "max_queued"),
        ("acme", {"max_active": -1}, "max_active"),
        ("acme", {"daily_gpu_seconds": -1}, "daily_gpu_seconds"),
        ("acme", {"budget": 1}, "budget"),
        ("acme", {"label": {"rule": "sometimes"}}, "label.rule"),
        ("acme", {"label": {"opacity": True}}, "label.opacity"),
        ("acme", {"label": {"logo": "a" * 64}}, "label"),
    ],
)
def test_wrong_limits_are_refused_with_their_field(
    admin: httpx.Client, name: str, body: dict[str, object], param: str
) -> None:
    refused = admin.put(f"/v1/admin/tenants/{name}", json=body)

    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


def test_logo_of_a_tenant_goes_into_what_its_videos_are_asked_for(
    admin: httpx.Client, client: httpx.Client, make_key: Callable[..., str], worker: FakeWorker, store: VideoStore
) -> None:
    make_key()
    file = io.BytesIO()
    Image.new("RGBA", (30, 10), (255, 0, 0, 128)).save(file, "WEBP")

    named = admin.put("/v1/admin/tenants/acme/logo", files={"file": ("logo.webp", file.getvalue())}).json()

    label = named["label"]
    assert admin.put("/v1/admin/tenants/acme", json={"label": label}).json()["label"] == label
    # Gateways remember a caller for a few seconds: ask with a key that they have not seen.
    video = client.post("/v1/videos", json={"prompt": "a red ball"}, headers=bearer(make_key())).json()
    drawn = store.get(video["id"]).request.visible_label
    assert drawn is not None
    assert (drawn.text, drawn.logo) == ("AI生成\nAI-GENERATED", label["logo"])
    assert admin.delete("/v1/admin/tenants/acme/logo").json()["label"]["logo"] is None


def test_what_is_no_logo_is_refused_and_the_tenant_keeps_its_own(
    admin: httpx.Client, make_key: Callable[..., str]
) -> None:
    make_key()
    for content in (b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\x89PNG\r\n\x1a\n broken", b"\0" * (2 << 20)):
        refused = admin.put("/v1/admin/tenants/acme/logo", files={"file": ("logo.png", content)})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "logo")
    assert admin.put("/v1/admin/tenants/nobody/logo", files={"file": ("a.png", b"x")}).status_code == 404


def test_of_what_is_not_there_404_tells(admin: httpx.Client) -> None:
    for answer, code in (
        (admin.post("/v1/admin/keys", json={"tenant": "nobody"}), "tenant_not_found"),
        (admin.post("/v1/admin/keys/nothing/rotate", json={}), "api_key_not_found"),
        (admin.delete("/v1/admin/keys/nothing"), "api_key_not_found"),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, code)


def test_a_key_that_asks_too_often_is_told_when_it_may_and_then_it_may(
    client: httpx.Client, make_key: Callable[..., str]
) -> None:
    limited, other = make_key(requests_per_minute=60), make_key()
    answers = [client.get("/v1/videos", headers=bearer(limited)) for _ in range(62)]

    refused = next(answer for answer in answers if answer.status_code != 200)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limited")
    assert refused.headers["x-should-retry"] == "true"
    assert client.get("/v1/videos", headers=bearer(other)).status_code == 200
    time.sleep(int(refused.headers["Retry-After"]))
    assert client.get("/v1/videos", headers=bearer(limited)).status_code == 200


def test_limits_set_over_http_hold_and_usage_tells_what_is_left(
    admin: httpx.Client, client: httpx.Client, make_key: Callable[..., str], worker: FakeWorker
) -> None:
    key = bearer(make_key())
    cost = 3.0  # by the card of these tests, for its default request
    limits = {"weight": 2, "max_active": 3, "daily_gpu_seconds": 2.5 * cost}
    assert admin.put("/v1/admin/tenants/acme", json=limits).json()["max_active"] == 3
    # Gateways remember a caller for a few seconds: ask with a key that they have not seen.
    key = bearer(make_key())
    for seed in (1, 2):
        assert client.post("/v1/videos", json={"prompt": "a red ball", "seed": seed}, headers=key).status_code == 200

    refused = client.post("/v1/videos", json={"prompt": "a red ball", "seed": 3}, headers=key)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "budget_exceeded")
    assert int(refused.headers["Retry-After"]) <= 24 * 3600
    joined = client.post("/v1/videos", json={"prompt": "a red ball", "seed": 2}, headers=key)
    assert joined.status_code == 200

    worker.finish()
    usage = client.get("/v1/usage", params={"days": 2}, headers=key).json()
    [today, yesterday] = usage["data"]
    assert (usage["tenant"], usage["daily_gpu_seconds"]) == ("acme", 2.5 * cost)
    assert (today["videos_queued"], today["videos_joined"], today["videos_cached"]) == (2, 1, 0)
    assert (today["gpu_seconds"], today["reserved_gpu_seconds"]) == (1.5, cost)
    assert usage["gpu_seconds_left"] == pytest.approx(2.5 * cost - 1.5 - cost)
    assert yesterday["videos_queued"] == 0


def test_usage_is_each_tenants_own(client: httpx.Client, make_key: Callable[..., str]) -> None:
    client.post("/v1/videos", json={"prompt": "a red ball"})

    assert client.get("/v1/usage").json()["data"][0]["videos_queued"] == 1
    assert client.get("/v1/usage", headers=bearer(make_key())).json()["data"][0]["videos_queued"] == 0
    assert client.get("/v1/usage", params={"days": 0}).status_code == 400
    assert client.get("/v1/usage", params={"days": 401}).status_code == 400


def test_keys_and_limits_are_in_the_audit_log(
    admin: httpx.Client, make_key: Callable[..., str], gateway_settings: Settings, wait_until: Callable[..., None]
) -> None:
    key = make_key()

    def lines() -> list[str]:
        text = gateway_settings.audit_path.read_text()
        return [line for line in text.splitlines() if id_of(key) in line and '"create_key"' in line]

    wait_until(lines)
    assert key.split("_")[2] not in gateway_settings.audit_path.read_text()
