"""Webhooks over HTTP: what may be asked for, what arrives, what is shown and what never is."""

from collections.abc import Callable, Iterator

import httpx
import openai
import pytest
from openai import OpenAI
from redis import Redis
from standardwebhooks import Webhook

from service.webhooks.secret import new_secret
from tests.service.api.conftest import FakeWorker
from tests.service.webhooks.receiver import HookReceiver, answer, hang

WaitUntil = Callable[..., None]


@pytest.fixture
def receiver() -> Iterator[HookReceiver]:
    with HookReceiver() as opened:
        yield opened


@pytest.fixture
def sdk(client: httpx.Client, address: str) -> Iterator[OpenAI]:
    """The openai SDK, whose client.webhooks is the shape we keep to."""
    with OpenAI(base_url=f"{address}/v1", api_key="none needed", max_retries=0) as opened:
        yield opened


class TestVideosOwnWebhook:
    def test_the_event_holds_the_whole_video_with_links_that_work(
        self, client: httpx.Client, worker: FakeWorker, receiver: HookReceiver, wait_until: WaitUntil
    ) -> None:
        secret = new_secret()
        body = {
            "prompt": "a red ball",
            "webhook": {"url": receiver.url, "secret": secret},
            "metadata": {"order": "7"},
        }
        video_id = client.post("/v1/videos", json=body).json()["id"]
        worker.finish(b"the file")
        wait_until(lambda: receiver.received)

        event = Webhook(secret).verify(receiver.received[0].body, receiver.received[0].headers)
        assert event["type"] == "video.completed"
        shown = client.get(f"/v1/videos/{video_id}").json()
        assert {**event["data"], "output": None} == {**shown, "output": None}
        assert event["data"]["metadata"] == {"order": "7"}
        assert httpx.get(event["data"]["output"]["url"]).content == b"the file"
        assert secret not in receiver.received[0].body.decode()

    @pytest.mark.parametrize(
        "request_body",
        [
            {"data": {"webhook[url]": "{url}", "webhook[events][]": "video.failed"}},
            {"data": {"webhook[url]": "{url}", "webhook[events]": "video.failed"}},
            {"data": {"webhook": '{"url": "{url}", "events": ["video.failed"]}'}},
            {"json": {"webhook": {"url": "{url}", "events": ["video.failed"]}}},
        ],
        ids=["brackets", "a single event", "JSON text", "JSON"],
    )
    def test_it_may_come_in_every_spelling_of_a_nested_field(
        self, client: httpx.Client, receiver: HookReceiver, request_body: dict[str, dict[str, object]]
    ) -> None:
        [(kind, fields)] = request_body.items()
        body = fill({"prompt": "a red ball", **fields}, receiver.url)

        video = client.post("/v1/videos", **{kind: body}).json()  # type: ignore[arg-type]

        assert video["webhook"]["url"] == receiver.url
        assert video["webhook"]["events"] == ["video.failed"]

    def test_a_secret_that_was_drawn_is_shown_once_and_verifies(
        self, client: httpx.Client, worker: FakeWorker, receiver: HookReceiver, wait_until: WaitUntil
    ) -> None:
        body = {"prompt": "a red ball", "webhook": {"url": receiver.url}}
        headers = {"Idempotency-Key": "k"}
        created = client.post("/v1/videos", json=body, headers=headers).json()
        replayed = client.post("/v1/videos", json=body, headers=headers).json()
        worker.fail("out_of_memory", "Too large.")
        wait_until(lambda: receiver.received)

        event = Webhook(created["webhook"]["secret"]).verify(receiver.received[0].body, receiver.received[0].headers)
        assert (event["type"], event["data"]["error"]["code"]) == ("video.failed", "out_of_memory")
        assert replayed["id"] == created["id"]
        assert replayed["webhook"]["secret"] is None
        assert client.get(f"/v1/videos/{created['id']}").json()["webhook"]["secret"] is None
        assert client.get("/v1/videos").json()["data"][0]["webhook"]["secret"] is None

    def test_a_secret_that_was_given_is_never_shown(self, client: httpx.Client, receiver: HookReceiver) -> None:
        secret = new_secret()
        answered = client.post("/v1/videos", json={"prompt": "a", "webhook": {"url": receiver.url, "secret": secret}})

        assert secret not in answered.text

    @pytest.mark.parametrize(
        ("webhook", "param", "reason"),
        [
            ({"url": "http://10.0.0.1/"}, "webhook.url", "not a public address"),
            ({"url": "http://169.254.169.254/latest"}, "webhook.url", "not a public address"),
            ({"url": "ftp://example.com/"}, "webhook.url", "must begin with https:// or http://"),
            ({"url": "https://user:pw@example.com/"}, "webhook.url", "user or password"),
            ({"url": "http://example.com:22/"}, "webhook.url", "port 22 is not allowed"),
            ({"url": "https://example.com/" + "a" * 3000}, "webhook.url", "at most 2048"),
            ({"url": 5}, "webhook.url", "valid string"),
            ({}, "webhook.url", "is missing"),
            ("https://example.com/", "webhook", "valid dictionary"),
            ([], "webhook", "valid dictionary"),
            ({"url": "https://example.com/", "events": ["video.started"]}, "webhook.events", "'video.completed'"),
            ({"url": "https://example.com/", "events": "all"}, "webhook.events", "'video.completed'"),
            ({"url": "https://example.com/", "events": []}, "webhook.events", "at least 1"),
            ({"url": "https://example.com/", "events": 5}, "webhook.events", "valid tuple"),
            ({"url": "https://example.com/", "secret": "hunter2"}, "webhook.secret", "whsec_"),
        ],
    )
    def test_a_wrong_webhook_is_400_and_names_the_field(
        self, client: httpx.Client, redis: Redis, webhook: object, param: str, reason: str
    ) -> None:
        answered = client.post("/v1/videos", json={"prompt": "a red ball", "webhook": webhook})

        assert answered.status_code == 400
        error = answered.json()["error"]
        assert error["param"] == param
        assert reason in error["message"]
        assert "hunter2" not in answered.text
        assert redis.llen("rq:queue:standard") == 0

    def test_unknown_members_are_ignored_and_listed(self, client: httpx.Client, receiver: HookReceiver) -> None:
        webhook = {"url": receiver.url, "headers": {"a": "b"}}

        video = client.post("/v1/videos", json={"prompt": "a", "webhook": webhook}).json()

        assert video["ignored"] == ["webhook.headers"]

    def test_a_cached_answer_has_its_own_event(
        self, client: httpx.Client, worker: FakeWorker, receiver: HookReceiver, wait_until: WaitUntil
    ) -> None:
        client.post("/v1/videos", json={"prompt": "a red ball"})
        worker.finish()

        cached = client.post("/v1/videos", json={"prompt": "a red ball", "webhook": {"url": receiver.url}}).json()
        wait_until(lambda: receiver.received)

        assert cached["cached"]
        assert receiver.received[0].event["data"]["id"] == cached["id"]

    def test_its_delivery_is_listed_and_can_be_replayed(
        self, client: httpx.Client, worker: FakeWorker, receiver: HookReceiver, wait_until: WaitUntil
    ) -> None:
        body = {"prompt": "a red ball", "webhook": {"url": receiver.url}}
        path = f"/v1/videos/{client.post('/v1/videos', json=body).json()['id']}/deliveries"
        assert client.get(path).json()["data"] == []
        worker.finish()
        wait_until(lambda: [d["status"] for d in client.get(path).json()["data"]] == ["delivered"])

        [delivery] = client.get(path).json()["data"]
        replayed = client.post(f"{path}/{delivery['id']}/replay")
        wait_until(lambda: len(receiver.received) == 2)

        assert [attempt["status_code"] for attempt in delivery["attempts"]] == [204]
        assert replayed.json()["status"] == "pending"


class TestEndpoints:
    def test_the_openai_sdk_creates_changes_lists_and_deletes_them(self, sdk: OpenAI, receiver: HookReceiver) -> None:
        created = sdk.webhooks.create(event_types=["video.completed"], name="ours", url=receiver.url)
        changed = sdk.webhooks.update(created.id, name="yours", event_types=["video.completed", "video.failed"])
        listed = list(sdk.webhooks.list(limit=1))

        assert created.signing_secret.startswith("whsec_")
        assert created.signing_secret_hint == f"whsec_…{created.signing_secret[-4:]}"
        assert (changed.name, changed.event_types) == ("yours", ["video.completed", "video.failed"])
        assert [endpoint.id for endpoint in listed] == [created.id]
        assert sdk.webhooks.retrieve(created.id).url == receiver.url
        assert sdk.webhooks.event_types.list().data == ["video.completed", "video.failed"]
        assert sdk.webhooks.delete(created.id).deleted
        with pytest.raises(openai.NotFoundError, match="There is no webhook endpoint"):
            sdk.webhooks.retrieve(created.id)

    def test_the_secret_is_shown_by_create_and_rotate_alone(
        self, client: httpx.Client, sdk: OpenAI, receiver: HookReceiver
    ) -> None:
        created = sdk.webhooks.create(event_types=["video.completed"], name="", url=receiver.url)
        rotated = sdk.webhooks.rotate_secret(created.id, keep_old_secret_active_for_24_hours=True)

        assert rotated.signing_secret != created.signing_secret
        for answered in (
            client.get("/v1/webhook_endpoints"),
            client.get(f"/v1/webhook_endpoints/{created.id}"),
            client.post(f"/v1/webhook_endpoints/{created.id}", json={"name": "x"}),
        ):
            assert created.signing_secret not in answered.text
            assert rotated.signing_secret not in answered.text

    def test_a_test_event_verifies_and_the_receivers_status_is_told(
        self, sdk: OpenAI, client: httpx.Client, receiver: HookReceiver
    ) -> None:
        created = sdk.webhooks.create(event_types=["video.completed"], name="", url=receiver.url)
        receiver.behaviour = answer(418)

        result = sdk.webhooks.test(created.id, event_type="video.failed")

        assert (result.status_code, result.event_type) == (418, "video.failed")
        [received] = receiver.received
        sdk.webhooks.verify_signature(received.body, received.headers, secret=created.signing_secret)
        assert received.event["data"]["status"] == "failed"
        assert client.get(f"/v1/webhook_endpoints/{created.id}/deliveries").json()["data"] == []

    def test_a_test_of_a_receiver_that_hangs_is_502_with_the_reason(
        self, client: httpx.Client, receiver: HookReceiver
    ) -> None:
        endpoint = client.post("/v1/webhook_endpoints", json={"url": receiver.url}).json()
        receiver.behaviour = hang

        answered = client.post(f"/v1/webhook_endpoints/{endpoint['id']}/test")

        assert answered.status_code == 502
        assert answered.json()["error"]["code"] == "receiver_unreachable"
        assert answered.headers["x-should-retry"] == "false"

    def test_deliveries_are_listed_by_state_and_page(
        self, client: httpx.Client, worker: FakeWorker, receiver: HookReceiver, wait_until: WaitUntil
    ) -> None:
        endpoint = client.post("/v1/webhook_endpoints", json={"url": receiver.url}).json()
        path = f"/v1/webhook_endpoints/{endpoint['id']}/deliveries"
        for number in range(3):
            client.post("/v1/videos", json={"prompt": f"ball {number}"})
            worker.finish()
        wait_until(lambda: len(client.get(path, params={"status": "delivered"}).json()["data"]) == 3)

        first = client.get(path, params={"limit": 2}).json()
        second = client.get(path, params={"limit": 2, "after": first["last_id"]}).json()

        assert (len(first["data"]), first["has_more"]) == (2, True)
        assert (len(second["data"]), second["has_more"]) == (1, False)
        assert client.get(path, params={"status": "dead"}).json()["data"] == []

    @pytest.mark.parametrize(
        ("body", "param"),
        [
            ({}, "url"),
            ({"url": "http://192.168.0.1/"}, "url"),
            ({"url": "https://example.com/", "event_types": ["video.started"]}, "event_types"),
            ({"url": "https://example.com/", "event_types": []}, "event_types"),
            ({"url": "https://example.com/", "name": "x" * 200}, "name"),
        ],
    )
    def test_a_wrong_endpoint_is_400_and_names_the_field(
        self, client: httpx.Client, body: dict[str, object], param: str
    ) -> None:
        answered = client.post("/v1/webhook_endpoints", json=body)

        assert answered.status_code == 400
        assert answered.json()["error"]["param"] == param
        assert client.get("/v1/webhook_endpoints").json()["data"] == []

    @pytest.mark.parametrize(
        ("method", "path", "code"),
        [
            ("GET", "/v1/webhook_endpoints/endpoint_x", "webhook_endpoint_not_found"),
            ("POST", "/v1/webhook_endpoints/endpoint_x", "webhook_endpoint_not_found"),
            ("DELETE", "/v1/webhook_endpoints/endpoint_x", "webhook_endpoint_not_found"),
            ("POST", "/v1/webhook_endpoints/endpoint_x/rotate_secret", "webhook_endpoint_not_found"),
            ("POST", "/v1/webhook_endpoints/endpoint_x/test", "webhook_endpoint_not_found"),
            ("GET", "/v1/webhook_endpoints/endpoint_x/deliveries", "webhook_endpoint_not_found"),
            ("POST", "/v1/webhook_endpoints/endpoint_x/deliveries/delivery_x/replay", "delivery_not_found"),
            ("POST", "/v1/videos/video_x/deliveries/delivery_x/replay", "delivery_not_found"),
        ],
    )
    def test_what_is_not_there_is_404(self, client: httpx.Client, method: str, path: str, code: str) -> None:
        body = {} if method == "POST" else None
        answered = client.request(method, path, json=body)

        assert (answered.status_code, answered.json()["error"]["code"]) == (404, code)

    def test_a_tenant_has_sixteen_at_most(self, client: httpx.Client) -> None:
        statuses = [
            client.post("/v1/webhook_endpoints", json={"url": "https://example.com/"}).status_code for _ in range(17)
        ]

        assert statuses == [200] * 16 + [400]


def fill(value: object, url: str) -> object:
    """The same with {url} replaced."""
    match value:
        case str():
            return value.replace("{url}", url)
        case dict():
            return {name: fill(member, url) for name, member in value.items()}
        case list():
            return [fill(member, url) for member in value]
        case _:
            return value
