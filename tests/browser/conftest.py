"""A real Chromium: the system's own, or the one that playwright has installed."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from service.embedded import attach
from service.jobs.connection import connect
from service.keys import Keys
from service.settings import Settings
from tests.service.api.conftest import serving

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
    with opened(browser, up_address) as page:
        page.locator("#health[data-state=ok]").wait_for()
        yield page


@pytest.fixture(scope="module")
def strict_settings(up_address: str, up_settings: Settings, free_port: Callable[[], int]) -> Settings:
    """Of a second gateway before the same worker and stores, that asks for API keys."""
    return attach(up_settings).with_changes(port=free_port(), require_keys=True)


@pytest.fixture(scope="module")
def make_key(strict_settings: Settings) -> Iterator[Callable[[], str]]:
    """make_key() is a new key of a tenant."""
    assert strict_settings.redis_url is not None
    with connect(strict_settings.redis_url) as redis:
        keys = Keys(redis, pepper=strict_settings.pepper())
        yield lambda: keys.create("acme")


@pytest.fixture(scope="module")
def strict_address(strict_settings: Settings, make_key: Callable[[], str]) -> Iterator[str]:
    make_key()
    with serving(strict_settings):
        yield f"http://127.0.0.1:{strict_settings.port}"


@pytest.fixture
def strict_page(browser: Browser, strict_address: str) -> Iterator[Page]:
    """The page of a gateway that asks for a key, before one is given. Guarded like page."""
    with opened(browser, strict_address) as page:
        yield page


@contextmanager
def opened(browser: Browser, address: str) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(TIMEOUT_MS)
    page = context.new_page()

    def is_own(url: str) -> bool:
        # A blob is what the page has fetched already.
        return url.removeprefix("blob:").startswith(address)

    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda line: faults.append(line.text) if "Content Security Policy" in line.text else None)
    page.on(
        "request",
        lambda request: None if request.url.removeprefix("blob:").startswith(address) else faults.append(request.url),
    )
    page.goto(address)
    yield page
    context.close()
    assert faults == []
