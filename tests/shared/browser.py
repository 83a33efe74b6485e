"""A real browser, headless, and where tests keep what they saw."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, expect, sync_playwright

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
