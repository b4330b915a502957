"""The web page in a real browser, on a whole `wanserve up`."""

import re
import uuid

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser
expect.set_options(timeout=60_000)

PROMPT = "a green square moves up on a black background"


def submit(page: Page, prompt: str, *, steps: int) -> None:
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.locator("#steps").evaluate(f"(input) => {{ input.value = {steps}; input.dispatchEvent(new Event('input')) }}")
    page.get_by_role("button", name="Generate").click()


def record_steps(page: Page) -> None:
    """Keep every step line and preview: a fast machine shows each for less time than a look from here takes."""
    page.evaluate(
        """() => {
            window.seenSteps = [];
            window.seenPreviews = [];
            const look = () => {
                const line = document.querySelector(".making .step");
                if (line) window.seenSteps.push(line.textContent);
                const preview = document.querySelector(".screen .preview");
                if (preview) window.seenPreviews.push(preview.src);
            };
            new MutationObserver(look).observe(document.body, {
                subtree: true, childList: true, characterData: true, attributes: true,
            });
        }"""
    )


def test_a_prompt_becomes_a_playing_video_and_is_listed(page: Page) -> None:
    prompt = f"{PROMPT} {uuid.uuid4().hex[:8]}"

    record_steps(page)
    submit(page, prompt, steps=100)

    player = page.locator("#stage video")
    expect(player).to_be_visible()
    steps = page.evaluate("window.seenSteps")
    assert any(re.search(r"step \d+ of 100", text) for text in steps), steps
    assert any(address.startswith("data:image/webp") for address in page.evaluate("window.seenPreviews"))
    before = player.evaluate("(video) => video.currentTime")
    player.evaluate(
        """(video, before) => new Promise((resolve) => {
            const look = () => (video.currentTime !== before ? resolve() : requestAnimationFrame(look));
            look();
        })""",
        before,
    )
    assert player.evaluate("(video) => video.videoWidth") >= 256
    assert player.evaluate("(video) => video.loop")
    card = page.locator(".card", has_text=prompt)
    expect(card.locator("video")).to_have_attribute("poster", re.compile("variant=thumbnail"))
    expect(page.locator("#announcer")).to_have_text("The video is ready and plays.")


def test_the_file_can_be_downloaded(page: Page) -> None:
    submit(page, PROMPT, steps=4)

    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()

    assert download.value.suggested_filename.endswith(".mp4")
    assert download.value.path().read_bytes()[4:8] == b"ftyp"


def test_examples_in_both_languages_fill_the_prompt(page: Page) -> None:
    for language in ("en", "zh"):
        chip = page.locator(f"#examples [lang={language}] button").first
        words = chip.inner_text()
        chip.click()
        expect(page.get_by_label("Prompt", exact=True)).to_have_value(words)
    expect(page.locator("#ability [lang=en]")).not_to_be_empty()
    expect(page.locator("#ability [lang=zh]")).not_to_be_empty()


def test_a_blocked_prompt_shows_why(page: Page) -> None:
    submit(page, "hardcore porn", steps=4)

    expect(page.get_by_role("alert")).to_contain_text("refused")
    expect(page.get_by_label("Prompt", exact=True)).to_be_focused()


def test_an_empty_prompt_and_a_wrong_seed_are_told(page: Page) -> None:
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_role("alert")).to_contain_text("empty")

    page.get_by_label("Prompt", exact=True).fill("a red ball")
    page.get_by_label("Seed").fill("12x")
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_role("alert")).to_contain_text("whole number")


def test_without_event_streams_progress_is_polled(page: Page) -> None:
    page.route("**/events", lambda route: route.abort())

    submit(page, f"{PROMPT} {uuid.uuid4().hex[:8]}", steps=10)

    expect(page.locator("#stage video")).to_be_visible()


def test_without_polling_events_tell_everything(page: Page) -> None:
    page.route(re.compile(r"/v1/videos/video_\w+$"), lambda route: route.abort())

    submit(page, f"{PROMPT} {uuid.uuid4().hex[:8]}", steps=10)

    expect(page.locator("#stage video")).to_be_visible()


def test_a_video_can_be_cancelled_and_deleted(page: Page) -> None:
    prompt = f"{PROMPT} {uuid.uuid4().hex[:8]}"
    submit(page, prompt, steps=100)

    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#stage")).to_contain_text("Cancelled")
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete for good?").click()

    expect(page.locator(".card", has_text=prompt)).to_have_count(0)


def test_an_address_opens_its_video_again(page: Page) -> None:
    submit(page, PROMPT, steps=4)
    expect(page.locator("#stage video")).to_be_visible()

    page.reload()

    expect(page.locator("#stage video")).to_be_visible()
    expect(page.locator("#stage .words")).to_have_text(PROMPT)


def test_the_keyboard_is_enough(page: Page) -> None:
    expect(page.get_by_label("Prompt", exact=True)).to_be_focused()
    page.keyboard.type(PROMPT)
    page.keyboard.press("Control+Enter")

    expect(page.locator("#stage video")).to_be_visible()


def test_a_narrow_screen_needs_no_sideways_scrolling(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})

    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_a_gateway_that_is_gone_is_told(page: Page) -> None:
    page.route("**/health", lambda route: route.abort())

    expect(page.locator("#health")).to_contain_text("does not answer")
