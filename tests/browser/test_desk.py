"""The review desk on the web page: seen by those who may decide, and by nobody else."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from service.jobs.connection import connect
from service.keys import Keys
from service.settings import Settings
from service.tenants import Tenant, Tenants
from tests.browser.test_key import give_key
from tests.browser.test_page import PROMPT

pytestmark = pytest.mark.browser
expect.set_options(timeout=60_000)


@pytest.fixture(scope="module")
def make_scoped_key(strict_settings: Settings) -> Iterator[Callable[..., str]]:
    """make_scoped_key("create", "read") is a key of a tenant whose finished videos are all held."""
    assert strict_settings.redis_url is not None
    with connect(strict_settings.redis_url) as redis:
        Tenants(redis).create(Tenant.model_validate({"name": "careful", "moderation": {"frames": "everything"}}))
        keys = Keys(redis, pepper=strict_settings.pepper())
        yield lambda *scopes: keys.create("careful", scopes=scopes)


def submitted(address: str, key: str) -> dict[str, Any]:
    fields = {"prompt": f"{PROMPT} {uuid.uuid4().hex[:8]}", "num_inference_steps": 2, "num_frames": 5}
    headers = {"Authorization": f"Bearer {key}"}
    reply = httpx.post(f"{address}/v1/videos", json=fields, headers=headers, trust_env=False)
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


def test_a_reviewer_plays_a_held_video_and_lets_its_owner_have_it(
    strict_page: Page, strict_address: str, make_scoped_key: Callable[..., str]
) -> None:
    key = make_scoped_key("create", "read", "review")
    video = submitted(strict_address, key)
    give_key(strict_page, key)
    review = strict_page.locator("#desk .review", has_text=video["prompt"])
    expect(review).to_contain_text("Finished video · everything")

    review.get_by_role("button", name="Look at it").click()
    expect(review.locator("video")).to_have_js_property("videoWidth", 256)
    review.get_by_role("button", name="Reject").click()
    expect(review.get_by_role("alert")).to_contain_text("reason")
    review.get_by_role("button", name="Approve").click()

    expect(review).to_have_count(0)
    headers = {"Authorization": f"Bearer {key}"}
    seen = httpx.get(f"{strict_address}/v1/videos/{video['id']}", headers=headers, trust_env=False).json()
    assert (seen["status"], seen["review"]) == ("completed", {"state": "approved"})


def test_who_may_not_review_sees_no_desk(
    strict_page: Page, strict_address: str, make_scoped_key: Callable[..., str]
) -> None:
    submitted(strict_address, make_scoped_key("create"))
    with strict_page.expect_response(lambda reply: "/v1/reviews" in reply.url and reply.status == 403):
        give_key(strict_page, make_scoped_key("create", "read"))

    expect(strict_page.locator("#desk")).to_be_hidden()
