"""Without API keys, only this machine's programs and the service's own pages may use it."""

import httpx
import pytest
from redis import Redis
from starlette.datastructures import Headers

from service.api.app import create_app
from service.api.guard import refusal
from service.errors import SettingsError
from service.settings import Settings

HERE = "127.0.0.1:8000"


@pytest.mark.parametrize(
    "headers",
    [
        {"host": HERE},
        {"host": "localhost:8000"},
        {"host": "LOCALHOST"},
        {"host": "[::1]:8000"},
        {"host": "127.8.9.1"},
        {"host": "wan.localhost:8000"},
        {"host": HERE, "origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"},
        {"host": HERE, "sec-fetch-site": "none"},
    ],
)
def test_this_machine_and_our_own_page_may(headers: dict[str, str]) -> None:
    assert refusal("POST", Headers(headers)) is None


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": ""},
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example"},
        {"host": "localhost.evil.example:8000"},
        {"host": "192.168.1.4:8000"},
        {"host": "[::1"},
        {"host": HERE, "origin": "https://evil.example"},
        {"host": HERE, "origin": "null"},
        {"host": HERE, "origin": ""},
        {"host": HERE, "origin": "http://["},
        {"host": HERE, "origin": "http://127.0.0.1:9999"},
        {"host": HERE, "sec-fetch-site": "cross-site"},
        {"host": HERE, "sec-fetch-site": "same-site"},
        {"host": HERE, "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "video"},
    ],
)
def test_foreign_names_and_foreign_pages_may_not(headers: dict[str, str]) -> None:
    assert refusal("POST", Headers(headers)) is not None
    assert refusal("GET", Headers(headers)) is not None


def test_a_followed_link_opens_but_a_posted_form_does_not() -> None:
    followed = Headers(
        {"host": HERE, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    )

    assert refusal("GET", followed) is None
    assert refusal("POST", followed) is not None


def test_a_form_of_another_website_queues_nothing(client: httpx.Client) -> None:
    answer = client.post("/v1/videos", data={"prompt": "a red ball"}, headers={"Origin": "https://evil.example"})

    assert answer.status_code == 403
    assert answer.json()["error"]["type"] == "permission_error"
    assert answer.headers["x-request-id"]
    assert client.get("/v1/videos").json()["data"] == []


def test_dns_rebinding_is_refused(client: httpx.Client) -> None:
    assert client.get("/v1/videos", headers={"Host": "evil.example"}).status_code == 403


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "gateway.example"])
def test_an_address_that_others_reach_is_refused_at_start_without_keys(
    settings: Settings, redis: Redis, host: str
) -> None:
    with pytest.raises(SettingsError, match=f"WANSERVE_HOST {host} needs API keys, and none exists yet"):
        create_app(settings.with_changes(host=host))
