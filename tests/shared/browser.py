"""A real browser, headless, and where tests keep what they saw."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SHOTS = Path(__file__).parents[2] / "test-output"
PATIENCE = 150_000  # milliseconds; what a page is to show comes within 30 s when both processors are busy
READY = "html[data-ready]"  # what the report's page has once its tables can be sorted


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run Debian's Chromium."""
    SHOTS.mkdir(exist_ok=True)
    expect.set_options(timeout=PATIENCE)  # Playwright's own 5 s are for machines with time to spare
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def quiet_tabs(browser: Browser, address: str) -> Iterator[Callable[..., Page]]:
    """Give a function that opens a page, which must not ask the network for anything, nor complain."""
    heard, contexts = [], []

    def open_page(width=1280, **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: heard.append(message.text))
        tab.on("pageerror", lambda error: heard.append(str(error)))
        tab.on("request", lambda request: heard.append(request.url) if request.url.startswith("http") else None)
        tab.goto(address)
        tab.wait_for_selector(READY)
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert heard == []


def faults(tab: Page, theme: str, width: int) -> list[str]:
    """Return what is wrong with how a page looks: wider than the screen, of the other theme, or serious to axe."""
    found = []
    if (wide := tab.evaluate("document.documentElement.scrollWidth")) != width:
        found.append(f"{wide} pixels wide on a screen of {width}")
    ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    if (sum(map(int, ground[4:-1].split(","))) > 384) != (theme == "light"):
        found.append(f"the ground is {ground} in the {theme} theme")
    serious = [each for each in Axe().run(tab).response["violations"] if each["impact"] in ("serious", "critical")]
    return [*found, *(f"{each['id']}: {each['nodes'][0]['html']}" for each in serious)]
