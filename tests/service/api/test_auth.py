"""API keys at the gateway: who gets in, who does not, and that tenants never see each other's videos."""

from collections.abc import Callable, Iterator

import httpx
import pytest
from redis import Redis

from service.api.app import create_app
from service.errors import SettingsError
from service.jobs.card import ModelCard
from service.jobs.connection import connect
from service.jobs.store import VideoStore
from service.keys import DEFAULT_SCOPES, Keys, Scope
from service.settings import Settings
from service.tenants import Tenant, Tenants
from tests.service.api.conftest import FakeWorker, serving
from tests.service.webhooks.receiver import HookReceiver

MakeKey = Callable[..., dict[str, str]]

VIDEO_ROUTES = [
    ("GET", ""),
    ("DELETE", ""),
    ("POST", "/cancel"),
    ("GET", "/content"),
    ("HEAD", "/content"),
    ("GET", "/content?variant=thumbnail"),
    ("GET", "/events"),
]
WEBHOOK_ROUTES = [
    ("GET", ""),
    ("POST", ""),
    ("DELETE", ""),
    ("POST", "/rotate_secret"),
    ("POST", "/test"),
    ("GET", "/deliveries"),
    ("POST", "/deliveries/delivery_x/replay"),
]
ROUTES = [("GET", "/v1/videos"), ("POST", "/v1/videos"), ("POST", "/videos"), ("GET", "/v1/models")] + [
    (method, f"/v1/videos/video_x{path}") for method, path in VIDEO_ROUTES
]
ROUTES += [
    ("GET", "/v1/webhook_endpoints"),
    ("POST", "/v1/webhook_endpoints"),
    ("GET", "/v1/videos/video_x/deliveries"),
]
ROUTES += [("POST", f"/v1/videos/{name}") for name in ("video_x/remix", "edits", "extensions", "characters")]
ROUTES += [("POST", "/v1/videos/video_x/deliveries/delivery_x/replay")]
ROUTES += [(method, f"/v1/webhook_endpoints/endpoint_x{path}") for method, path in WEBHOOK_ROUTES]
ROUTES += [
    ("POST", "/v1/verify"),
    ("GET", "/v1/usage"),
    ("GET", "/v1/admin/keys"),
    ("POST", "/v1/admin/keys"),
    ("POST", "/v1/admin/keys/key_x/rotate"),
    ("DELETE", "/v1/admin/keys/key_x"),
    ("GET", "/v1/admin/tenants"),
    ("PUT", "/v1/admin/tenants/acme"),
    ("DELETE", "/v1/admin/tenants/acme/logo"),
    ("GET", "/v1/files"),
    ("POST", "/v1/files"),
    ("GET", "/v1/files/file_x"),
    ("DELETE", "/v1/files/file_x"),
    ("GET", "/v1/files/file_x/content"),
    ("GET", "/v1/batches"),
    ("POST", "/v1/batches"),
    ("GET", "/v1/batches/batch_x"),
    ("POST", "/v1/batches/batch_x/cancel"),
]
WRONG_KEYS = ["ws_", "ws_x_y", f"ws_{'0' * 16}_{'0' * 64}", f"ws_{'0' * 16}_{'0' * 63}", "ws_ä"]


@pytest.fixture
def make_key(redis: Redis, gateway_settings: Settings, store: VideoStore, card: ModelCard) -> MakeKey:
    """make_key("acme") gives the headers of a caller; the gateway knows a model."""
    store.register_card(card)
    keys, tenants = Keys(redis, pepper=gateway_settings.pepper()), Tenants(redis)

    def make(tenant: str, *, scopes: tuple[Scope, ...] = DEFAULT_SCOPES, **fields: object) -> dict[str, str]:
        if tenant not in [known.name for known in tenants.list()]:
            tenants.create(Tenant.checked(name=tenant, **fields))
        return {"Authorization": f"Bearer {keys.create(tenant, scopes=scopes)}"}

    return make


@pytest.fixture(scope="session")
def strict_address(gateway_settings: Settings, free_port: Callable[[], int]) -> Iterator[str]:
    """Where a gateway on loopback listens that asks for keys."""
    settings = gateway_settings.with_changes(port=free_port(), require_keys=True)
    assert settings.redis_url is not None
    with connect(settings.redis_url) as redis:
        Keys(redis, pepper=settings.pepper()).create("somebody")
    with serving(settings):
        yield f"http://127.0.0.1:{settings.port}"


@pytest.fixture
def strict(strict_address: str, make_key: MakeKey) -> Iterator[httpx.Client]:
    """A client that sends no key by itself, of a gateway that asks for one."""
    with httpx.Client(base_url=strict_address, timeout=30, trust_env=False) as client:
        yield client


def post(client: httpx.Client, headers: dict[str, str], prompt: str = "a red ball") -> str:
    answer = client.post("/v1/videos", json={"prompt": prompt}, headers=headers)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def test_where_a_key_is_needed_every_route_says_so(strict: httpx.Client, redis: Redis) -> None:
    for method, path in ROUTES:
        answer = strict.request(method, path, json={"prompt": "a red ball"} if method == "POST" else None)
        assert answer.status_code == 401, (method, path)
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="wanserve"'
        if method != "HEAD":
            assert answer.json()["error"]["code"] == "missing_api_key"
            assert answer.json()["error"]["type"] == "authentication_error"
    assert redis.keys("wanserve:video:*") == []


@pytest.mark.parametrize("key", [*WRONG_KEYS, "none", "sk-proj-of-someone-else"])
def test_where_a_key_is_needed_a_wrong_one_opens_nothing(strict: httpx.Client, key: str) -> None:
    for method, path in ROUTES:
        headers = {"Authorization": f"Bearer {key}".encode("latin-1")}
        answer = strict.request(method, path, headers=headers)
        assert answer.status_code == 401, (method, path)
        assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
        if method != "HEAD":
            assert answer.json()["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize("value", ["", "Bearer", "Basic YTpi", "ws_0_0"])
def test_an_authorization_of_another_kind_is_no_key(strict: httpx.Client, value: str) -> None:
    answer = strict.get("/v1/videos", headers={"Authorization": value})

    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "missing_api_key")


def test_a_key_opens_the_gateway_under_any_name_and_from_any_page(strict: httpx.Client, make_key: MakeKey) -> None:
    foreign = {"Host": "video.example", "Origin": "https://app.example", "Sec-Fetch-Site": "cross-site"}

    video_id = post(strict, make_key("acme") | foreign)

    assert strict.get(f"/v1/videos/{video_id}", headers=make_key("acme") | foreign).status_code == 200


def test_a_revoked_key_is_refused(
    strict: httpx.Client, make_key: MakeKey, redis: Redis, gateway_settings: Settings, wait_until: Callable[..., None]
) -> None:
    headers = make_key("acme")
    assert strict.get("/v1/videos", headers=headers).status_code == 200

    Keys(redis, pepper=gateway_settings.pepper()).revoke(headers["Authorization"].split("_")[1])

    wait_until(lambda: strict.get("/v1/videos", headers=headers).status_code == 401)


def test_a_key_does_what_its_scopes_say_and_no_more(strict: httpx.Client, make_key: MakeKey) -> None:
    reader, creator = make_key("acme", scopes=("read",)), make_key("acme", scopes=("create",))
    video_id = post(strict, creator)

    for method, path in [("POST", ""), ("POST", f"/{video_id}/cancel"), ("DELETE", f"/{video_id}")]:
        answer = strict.request(method, f"/v1/videos{path}", headers=reader)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "insufficient_scope")
        assert "needs create" in answer.json()["error"]["message"]
    for path in ("", f"/{video_id}", f"/{video_id}/content", f"/{video_id}/events"):
        assert strict.get(f"/v1/videos{path}", headers=creator).status_code == 403
    assert strict.get(f"/v1/videos/{video_id}", headers=reader).json()["status"] == "queued"


def test_probes_and_the_page_need_no_key_but_the_numbers_need_an_operators(
    strict: httpx.Client, make_key: MakeKey
) -> None:
    for path in ("/liveness", "/ready", "/", "/console/app.js", "/openapi.json"):
        assert strict.get(path, headers={"Host": "video.example"}).status_code == 200
    assert strict.get("/health").status_code in (200, 503)

    assert strict.get("/metrics").status_code == 401
    assert strict.get("/metrics", headers=make_key("acme")).status_code == 403
    assert "wanserve_queue_up 1.0" in strict.get("/metrics", headers=make_key("ops", scopes=("admin",))).text


def test_a_signed_link_needs_no_key_and_a_bent_one_opens_nothing(
    strict: httpx.Client, make_key: MakeKey, worker: FakeWorker
) -> None:
    headers = make_key("acme")
    video_id = post(strict, headers)
    worker.finish(b"the file")
    url = strict.get(f"/v1/videos/{video_id}", headers=headers).json()["output"]["url"]

    assert strict.get(url).content == b"the file"
    assert strict.get(url, headers={"Host": "video.example"}).content == b"the file"
    assert strict.get(url[:-1]).status_code == 403
    assert strict.get(url.replace("video_", "video_0")).status_code == 403


def test_nobody_sees_or_touches_another_tenants_video(
    strict: httpx.Client, make_key: MakeKey, worker: FakeWorker
) -> None:
    acme, zoo = make_key("acme"), make_key("zoo")
    finished = post(strict, acme)
    worker.finish(b"of acme")
    waiting = post(strict, acme, "a blue star")

    for video_id in (finished, waiting):
        for method, path in VIDEO_ROUTES:
            answer = strict.request(method, f"/v1/videos/{video_id}{path}", headers=zoo)
            assert answer.status_code == 404, (method, path)
            if method != "HEAD":
                assert answer.json()["error"]["code"] == "video_not_found"

    assert strict.get("/v1/videos", headers=zoo).json()["data"] == []
    assert strict.get("/v1/videos", params={"after": waiting}, headers=zoo).status_code == 400
    assert strict.get(f"/v1/videos/{finished}/content", headers=acme).content == b"of acme"
    assert strict.get(f"/v1/videos/{waiting}", headers=acme).json()["status"] == "queued"


def test_nobody_remixes_another_tenants_video(strict: httpx.Client, make_key: MakeKey) -> None:
    acme, zoo = make_key("acme"), make_key("zoo")
    video_id = post(strict, acme)

    answer = strict.post(f"/v1/videos/{video_id}/remix", json={"prompt": "a blue star"}, headers=zoo)

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "video_not_found")
    assert strict.get("/v1/videos", headers=zoo).json()["data"] == []


def test_another_tenants_dashscope_task_is_as_one_that_is_not_there(strict: httpx.Client, make_key: MakeKey) -> None:
    acme, zoo = make_key("acme"), make_key("zoo")
    task_id = post(strict, acme)

    seen = strict.get(f"/api/v1/tasks/{task_id}", headers=zoo).json()["output"]

    assert seen == {"task_id": task_id, "task_status": "UNKNOWN"}
    assert strict.post(f"/api/v1/tasks/{task_id}/cancel", headers=zoo).status_code == 404
    assert strict.get("/api/v1/tasks", headers=zoo).json()["data"] == []
    assert strict.get(f"/api/v1/tasks/{task_id}").json()["code"] == "InvalidApiKey"
    assert strict.get(f"/api/v1/tasks/{task_id}", headers=acme).json()["output"]["task_status"] == "PENDING"


def test_another_tenants_deleted_video_is_not_there_either(strict: httpx.Client, make_key: MakeKey) -> None:
    acme, zoo = make_key("acme"), make_key("zoo")
    video_id = post(strict, acme)
    strict.delete(f"/v1/videos/{video_id}", headers=acme)

    assert strict.get("/v1/videos", params={"after": video_id}, headers=acme).status_code == 200
    assert strict.get("/v1/videos", params={"after": video_id}, headers=zoo).status_code == 400


def test_tenants_share_neither_idempotency_keys_nor_cached_files(
    strict: httpx.Client, make_key: MakeKey, worker: FakeWorker
) -> None:
    acme, zoo = (make_key(name) | {"Idempotency-Key": "k"} for name in ("acme", "zoo"))
    first = post(strict, acme)
    worker.finish()

    assert post(strict, acme) == first
    second = post(strict, zoo)

    assert second != first
    assert strict.get(f"/v1/videos/{second}", headers=zoo).json()["status"] == "queued"


def test_a_tenants_limit_holds_for_all_its_keys_and_for_it_alone(strict: httpx.Client, make_key: MakeKey) -> None:
    one, other, zoo = make_key("acme", max_queued=1), make_key("acme"), make_key("zoo")
    post(strict, one)

    answer = strict.post("/v1/videos", json={"prompt": "a blue star"}, headers=other)

    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "tenant_queue_full")
    assert int(answer.headers["Retry-After"]) >= 1
    post(strict, zoo)


@pytest.mark.parametrize("authorization", [None, "Bearer none", "Bearer sk-proj-123"])
def test_without_a_key_of_ours_loopback_serves_the_default_tenant(
    client: httpx.Client, make_key: MakeKey, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}

    video_id = post(client, headers)

    assert client.get(f"/v1/videos/{video_id}", headers=make_key("default")).status_code == 200
    assert client.get(f"/v1/videos/{video_id}", headers=make_key("acme")).status_code == 404


@pytest.mark.parametrize("key", WRONG_KEYS)
def test_a_wrong_key_of_ours_is_refused_on_loopback_too(client: httpx.Client, key: str) -> None:
    answer = client.get("/v1/videos", headers={"Authorization": f"Bearer {key}".encode("latin-1")})

    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


def test_the_guard_of_loopback_lets_a_valid_key_pass_and_no_other(client: httpx.Client, make_key: MakeKey) -> None:
    foreign = {"Host": "video.example", "Origin": "https://evil.example"}

    assert client.get("/v1/videos", headers=make_key("acme") | foreign).status_code == 200
    assert client.get("/v1/videos", headers=foreign).status_code == 403
    assert client.get("/v1/videos", headers={"Authorization": "Bearer none"} | foreign).status_code == 403
    for path in ("/v1/videos", "/metrics", "/"):
        answer = client.get(path, headers={"Authorization": f"Bearer {WRONG_KEYS[2]}"} | foreign)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    "changes", [{"host": "0.0.0.0"}, {"host": "::"}, {"host": "192.168.1.4"}, {"require_keys": True}]
)
def test_a_gateway_that_asks_for_keys_does_not_start_before_there_is_one(
    gateway_settings: Settings, make_key: MakeKey, redis: Redis, changes: dict[str, object]
) -> None:
    settings = gateway_settings.with_changes(**changes)
    with pytest.raises(SettingsError, match="wanserve keys create --tenant"):
        create_app(settings)

    headers = make_key("acme")
    create_app(settings)

    with pytest.raises(SettingsError, match="WANSERVE_KEY_PEPPER"):
        create_app(settings.with_changes(key_pepper="another pepper here"))
    Keys(redis, pepper=settings.pepper()).revoke(headers["Authorization"].split("_")[1])
    with pytest.raises(SettingsError, match="wanserve keys create --tenant"):
        create_app(settings)


def test_while_redis_is_away_nobody_gets_in_and_the_gateway_starts_all_the_same(
    gateway_settings: Settings, free_port: Callable[[], int]
) -> None:
    settings = gateway_settings.with_changes(
        port=free_port(), redis_url=f"redis://127.0.0.1:{free_port()}", require_keys=True
    )
    with serving(settings), httpx.Client(base_url=f"http://127.0.0.1:{settings.port}", timeout=60) as client:
        missing = client.get("/v1/videos")
        unknown = client.get("/v1/videos", headers={"Authorization": f"Bearer {WRONG_KEYS[2]}"})

    assert missing.status_code == 401
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (503, "queue_unavailable")


def test_the_schema_tells_where_the_key_goes(client: httpx.Client) -> None:
    schema = client.get("/openapi.json").json()

    [scheme] = schema["components"]["securitySchemes"].values()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    for path in ("/v1/videos", "/v1/videos/{video_id}", "/v1/videos/{video_id}/content", "/metrics"):
        operation = schema["paths"][path]["get"]
        assert operation["security"], path
        assert "401" in operation["responses"], path


def test_a_tenant_neither_sees_nor_moves_nor_hears_of_anothers_webhooks(
    strict: httpx.Client, make_key: MakeKey, worker: FakeWorker, wait_until: Callable[..., None]
) -> None:
    acme, other = make_key("acme"), make_key("other")
    with HookReceiver() as receiver:
        endpoint = strict.post("/v1/webhook_endpoints", json={"url": receiver.url}, headers=acme).json()
        path = f"/v1/webhook_endpoints/{endpoint['id']}"
        post(strict, other, "a blue ball")
        worker.finish()
        video_id = post(strict, acme)
        worker.finish()
        wait_until(lambda: strict.get(f"{path}/deliveries?status=delivered", headers=acme).json()["data"])

        assert [received.event["data"]["id"] for received in receiver.received] == [video_id]
        [delivery] = strict.get(f"{path}/deliveries", headers=acme).json()["data"]
        for method, tail in [*WEBHOOK_ROUTES[:-1], ("POST", f"/deliveries/{delivery['id']}/replay")]:
            assert strict.request(method, f"{path}{tail}", json={}, headers=other).status_code == 404, (method, tail)
        assert strict.get("/v1/webhook_endpoints", headers=other).json()["data"] == []
        assert strict.get(f"/v1/videos/{video_id}/deliveries", headers=other).status_code == 404
        assert strict.get(path, headers=acme).json()["id"] == endpoint["id"]
        assert len(receiver.received) == 1


def test_a_tenant_neither_sees_nor_moves_anothers_files_and_batches(
    strict: httpx.Client, make_key: MakeKey, wait_until: Callable[..., None]
) -> None:
    acme, other = make_key("acme"), make_key("other")
    form = {"files": {"file": ("in.jsonl", b"{}\n")}, "data": {"purpose": "batch"}}
    file_id = strict.post("/v1/files", headers=acme, **form).json()["id"]  # type: ignore[arg-type]
    asked = {"input_file_id": file_id, "endpoint": "/v1/videos", "completion_window": "24h"}
    batch_id = strict.post("/v1/batches", json=asked, headers=acme).json()["id"]

    for method, path in [("GET", ""), ("GET", "/content"), ("DELETE", "")]:
        assert strict.request(method, f"/v1/files/{file_id}{path}", headers=other).status_code == 404, (method, path)
    for method, path in [("GET", ""), ("POST", "/cancel")]:
        assert strict.request(method, f"/v1/batches/{batch_id}{path}", headers=other).status_code == 404, (method, path)
    assert strict.post("/v1/batches", json=asked, headers=other).status_code == 404
    for kind, known in (("files", file_id), ("batches", batch_id)):
        assert strict.get(f"/v1/{kind}", headers=other).json()["data"] == []
        assert strict.get(f"/v1/{kind}", params={"after": known}, headers=other).status_code == 400
    assert strict.get(f"/v1/files/{file_id}/content", headers=acme).content == b"{}\n"
    wait_until(lambda: strict.get(f"/v1/batches/{batch_id}", headers=acme).json()["status"] == "completed")


def test_files_and_batches_need_the_scopes_of_videos(strict: httpx.Client, make_key: MakeKey) -> None:
    reader, creator = make_key("acme", scopes=("read",)), make_key("acme", scopes=("create",))

    for path in ("/v1/files", "/v1/batches", "/v1/batches/batch_x/cancel"):
        assert strict.post(path, json={}, headers=reader).status_code == 403, path
    assert strict.delete("/v1/files/file_x", headers=reader).status_code == 403
    for path in ("/v1/files", "/v1/files/file_x", "/v1/files/file_x/content", "/v1/batches", "/v1/batches/batch_x"):
        assert strict.get(path, headers=creator).status_code == 403, path
