"""A year of the watch as a page in a real browser: from disk, in both themes, on a phone, by keyboard."""

import pytest
from playwright.sync_api import expect

from tasks.core.design.initializers import BACKENDS
from tasks.core.report import drawing, watch_page
from tasks.core.report.watch_history import History
from tasks.core.watch.watched import Watched
from tests.shared.browser import SHOTS, chromium, faults, quiet_tabs
from tests.shared.nights import BITS, UPGRADE, changed, night, values

YEAR = 365
STUDIES = ("iris", "digits", *(f"study-{at}" for at in range(8)))
LAWS = ("glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "orthogonal", "pytorch_default", "zeros")


@pytest.fixture(scope="module")
def written():
    """Return the page of a year of 10 studies, on whose last night one changed and another was not deterministic."""
    nights = [night(at, studies=STUDIES) for at in range(YEAR)]
    nights[90] = night(90, changed("digits"), studies=STUDIES)
    nights[200] = night(200, Watched("iris", "not comparable", (), UPGRADE), studies=STUDIES)
    nights[-1] = night(YEAR - 1, changed(), Watched("digits", "not deterministic", (BITS,)), studies=STUDIES)
    groups = tuple(f"{backend} · {law}" for backend in BACKENDS for law in LAWS)
    history = History.of(values(YEAR, STUDIES, groups, ("test_accuracy", "test_loss", "train_seconds")), nights)
    return watch_page.html(nights, history, drawing.of_watch(nights, history))


@pytest.fixture(scope="module")
def address(written, tmp_path_factory):
    file = tmp_path_factory.mktemp("watch") / "watch.html"
    file.write_text(written)
    return file.as_uri()


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def opened(browser, address):
    with quiet_tabs(browser, address) as open_page:
        yield open_page


def test_a_year_of_ten_studies_is_below_3_mb(written):
    """The page of 365 nights with 420 series is below 3 MB."""
    assert len(written) < 3_000_000


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 1280), ("light", 400), ("dark", 400)])
def test_themes_and_widths(opened, theme, width):
    """In either theme and on a phone nothing is wider than the page, and axe finds nothing serious."""
    tab = opened(width, color_scheme=theme)
    tab.screenshot(path=SHOTS / f"watch-{theme}-{width}.png", full_page=True)
    assert faults(tab, theme, width) == []


def test_history_is_found_by_words_and_by_keyboard(opened):
    """What is typed into the history's filter leaves the lines that have all of its words; Enter on a head sorts."""
    tab = opened()
    expect(tab.locator("#history .dt-info")).to_contain_text("420")
    tab.locator("#history input[type=search]").press_sequentially("study-3 keras zeros loss")
    expect(tab.locator("#history tbody tr")).to_have_count(1)
    assert tab.locator("#history tbody .spark").bounding_box()["width"] > 150
    head = tab.locator("#past thead th", has_text="night")
    head.locator("[role=button]").first.press("Enter")
    expect(head).to_have_attribute("aria-sort", "ascending")
    expect(tab.locator("#past tbody tr").first).to_contain_text("2026-03-01")


def test_flagged_nights_are_seen(opened):
    """The line of what is flagged tonight comes first and has a dot that can be seen at its end."""
    line = opened().locator("#history tbody tr").first.locator(".spark")
    dot = line.locator(".dot.worse")
    assert line.get_attribute("aria-label").endswith("flagged on 2026-11-30")
    assert dot.evaluate("each => getComputedStyle(each).strokeLinecap") == "round"
    end = line.bounding_box()["x"] + line.bounding_box()["width"]
    assert abs(dot.evaluate("each => each.getBoundingClientRect().right") - end) < 8


def test_page_without_scripts(browser, address):
    """Where scripts are off the page is whole, but for sorting and filtering."""
    with browser.new_context(java_script_enabled=False) as context:
        tab = context.new_page()
        tab.goto(address)
        assert tab.locator("#history tbody tr").count() == 420
        assert tab.locator(".answer p").first.inner_text().startswith("Not deterministic:")
