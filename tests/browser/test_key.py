"""The web page where an API key is needed."""

import re
import uuid
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.test_page import PROMPT, submit

pytestmark = pytest.mark.browser
expect.set_options(timeout=60_000)


def give_key(page: Page, key: str) -> None:
    page.get_by_label("API key", exact=True).fill(key)
    page.get_by_role("button", name="Open").click()


def test_a_key_opens_the_page_and_its_video_plays_from_a_signed_link(
    strict_page: Page, make_key: Callable[[], str]
) -> None:
    expect(strict_page.get_by_role("heading", name="An API key is needed")).to_be_visible()
    expect(strict_page.locator("#composer")).to_be_hidden()
    expect(strict_page.get_by_label("API key", exact=True)).to_be_focused()
    prompt = f"{PROMPT} {uuid.uuid4().hex[:8]}"

    give_key(strict_page, make_key())
    expect(strict_page.locator("#sizes label")).not_to_have_count(0)
    with strict_page.expect_request("**/events") as stream:
        submit(strict_page, prompt, steps=4)

    player = strict_page.locator("#stage video")
    expect(player).to_have_attribute("src", re.compile(r"^/v1/videos/video_\w+/content\?.*token="))
    expect(player).to_have_js_property("videoWidth", 256)
    assert stream.value.headers["authorization"].startswith("Bearer ws_")
    card = strict_page.locator(".card", has_text=prompt)
    expect(card.locator("video")).to_have_attribute("poster", re.compile("variant=thumbnail.*token="))
    with strict_page.expect_download() as download:
        strict_page.get_by_role("link", name="Download").click()
    assert download.value.path().read_bytes()[4:8] == b"ftyp"


def test_the_key_lasts_for_the_tab_until_it_is_forgotten(strict_page: Page, make_key: Callable[[], str]) -> None:
    give_key(strict_page, make_key())
    expect(strict_page.locator("#composer")).to_be_visible()

    strict_page.reload()
    expect(strict_page.locator("#sizes label")).not_to_have_count(0)
    strict_page.get_by_role("button", name="Forget key").click()

    expect(strict_page.get_by_label("API key", exact=True)).to_be_visible()
    expect(strict_page.locator("#composer")).to_be_hidden()


@pytest.mark.parametrize("key", ["", "ws_nonsense", "no key: é"])
def test_a_wrong_key_is_told_and_another_can_be_given(strict_page: Page, make_key: Callable[[], str], key: str) -> None:
    give_key(strict_page, key)
    expect(strict_page.get_by_role("alert")).to_contain_text("no API key of wanserve")

    give_key(strict_page, make_key())

    expect(strict_page.locator("#composer")).to_be_visible()


def test_a_link_that_ran_out_is_renewed_when_it_is_played(strict_page: Page, make_key: Callable[[], str]) -> None:
    give_key(strict_page, make_key())
    refused = []

    def refuse_once(route: Route) -> None:
        if refused:
            route.continue_()
        else:
            refused.append(route.request.url)
            route.fulfill(status=403, body="")

    strict_page.route("**/content?variant=video&*", refuse_once)
    submit(strict_page, f"{PROMPT} {uuid.uuid4().hex[:8]}", steps=4)

    expect(strict_page.locator("#stage video")).to_have_js_property("videoWidth", 256)
    assert refused
