"""The report's page in a real browser: from disk, in both themes, on a phone, on paper, and in MLflow's own viewer."""

import pytest
from playwright.sync_api import expect

from tests.shared.browser import SHOTS, chromium, faults, quiet_tabs
from tests.shared.reports import findings, page
from tests.shared.samples import history, layers


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Return where a report lies on disk, that has every picture."""
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(page(findings(), layers(), history()))
    return file.as_uri()


@pytest.fixture
def opened(browser, address):
    """Return a function that opens the report, and fails if it asks the network or complains."""
    with quiet_tabs(browser, address) as open_page:
        yield open_page


def column(tab, table, name):
    at = tab.locator(f"#{table} thead th").all_inner_texts().index(name)
    return tab.locator(f"#{table} tbody tr td:nth-child({at + 1})").all_inner_texts()


def test_sorting(opened):
    """A click on a head, or Enter on it, sorts by the number that is meant, not by its text."""
    tab = opened()
    head = tab.locator("#groups thead th", has_text="test loss").first
    head.click()
    expect(head).to_have_attribute("aria-sort", "ascending")
    rising = [float(text.split()[0]) for text in column(tab, "groups", "test loss")]
    assert rising == sorted(rising)
    head.locator("[role=button]").first.press("Enter")
    expect(head).to_have_attribute("aria-sort", "descending")
    falling = [float(text.split()[0]) for text in column(tab, "groups", "test loss")]
    assert falling == sorted(falling, reverse=True) != rising


def test_filtering(opened):
    """What is typed into a table's filter leaves the rows that have all of its words."""
    tab = opened()
    tab.locator("#pairs input[type=search]").fill("keras zeros loss")
    expect(tab.locator("#pairs .dt-info")).to_contain_text("filtered from 36")
    rows = tab.locator("#pairs tbody tr").all_inner_texts()
    assert 0 < len(rows) < 25
    assert all("keras" in row and "zeros" in row and "loss" in row for row in rows)


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 1280), ("light", 390), ("dark", 390)])
def test_themes_and_widths(opened, theme, width):
    """In either theme and on a phone nothing is wider than the page, and axe finds nothing serious."""
    tab = opened(width, color_scheme=theme)
    tab.screenshot(path=SHOTS / f"report-{theme}-{width}.png", full_page=True)
    assert faults(tab, theme, width) == []


def test_printing(opened, tmp_path):
    """On paper all rows of all tables are there, without what one would click on."""
    tab = opened()
    shown = tab.locator("#pairs tbody tr").count()
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.locator("#pairs tbody tr").count() > shown
    tab.emulate_media(media="print")
    assert not tab.locator("#pairs input[type=search]").is_visible()
    assert tab.locator("#details li").first.is_visible()
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert tab.locator("#pairs tbody tr").count() == shown
    assert not tab.locator("#details li").first.is_visible()


def test_details_are_folded(opened):
    """The page begins with the answer; its details are folded, until a reader clicks on them or on a link to them."""
    tab = opened()
    answer, picture = tab.locator(".answer p").first, tab.locator("figure").first
    assert answer.inner_text().startswith("PyTorch: he_normal or glorot_uniform.")
    assert answer.bounding_box()["y"] < picture.bounding_box()["y"] < tab.locator("#details").bounding_box()["y"]
    assert not tab.locator("#details li").first.is_visible()
    tab.locator("nav a", has_text="Details").click()
    expect(tab.locator("#details li").first).to_be_visible()
    assert not tab.locator(".methods").is_visible()
    tab.locator("#methods summary").click()
    expect(tab.locator(".methods")).to_be_visible()


def test_page_without_scripts(browser, address):
    """Where scripts are off the page is whole, but for sorting and filtering."""
    with browser.new_context(java_script_enabled=False) as context:
        tab = context.new_page()
        tab.goto(address)
        assert tab.locator("#pairs tbody tr").count() == 36
        assert tab.locator("figure svg").count() == tab.locator("figure").count() == 8
