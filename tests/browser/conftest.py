"""A real Chromium: the system's own, or the one that playwright has installed."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

TIMEOUT_MS = 60_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Skips where there is no browser. Not for the session: playwright keeps an event loop running in this thread."""
    with sync_playwright() as playwright:
        executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        try:
            launched = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        except Exception as e:
            if "Executable doesn't exist" in str(e):
                pytest.skip("no Chromium: install one, for example with `playwright install chromium`")
            raise
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser, up_address: str) -> Iterator[Page]:
    """The service's page, its model known. Any script error or foreign request fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(TIMEOUT_MS)
    opened = context.new_page()
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("console", lambda line: faults.append(line.text) if "Content Security Policy" in line.text else None)
    opened.on("request", lambda request: None if request.url.startswith(up_address) else faults.append(request.url))
    opened.goto(up_address)
    opened.locator("#health[data-state=ok]").wait_for()
    yield opened
    context.close()
    assert faults == []
