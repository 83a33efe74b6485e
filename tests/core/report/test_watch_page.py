"""The page of a night; how it looks and behaves in a browser is in tests/flows/test_watch_page.py."""

import re

import pytest

from tasks.core.report import drawing, watch_page
from tasks.core.report.watch_history import History
from tasks.core.watch.watched import VERDICTS, Flag, Watched
from tests.shared.nights import BITS, LOST, UPGRADE, changed, night, values


def page(nights, history):
    found = History.of(history, nights)
    return watch_page.html(nights, found, drawing.of_watch(nights, found))


def main(text):
    return text.partition("<main>")[2].partition("</main>")[0]


@pytest.fixture(scope="module")
def text():
    return page([night(0), night(1, changed("digits", differing=UPGRADE[:1])), night(2, changed())], values(3))


def test_the_verdict_comes_first(text):
    """The page tells the verdict, then flags with evidence, the environment, the picture, and last the history."""
    parts = ["<strong>Changed for better and for worse:</strong> Tonight PyTorch&#39;s he_normal on iris lost 0.02"]
    parts += [
        '<section id="study-iris">',
        "9 of 10 seeds",
        "<li>torch went from 2.12 to 2.13</li>",
        '<figure id="figure-history-iris">',
    ]
    parts += ['<section id="studies">', '<section id="flags">', '<figure id="nights">', '<section id="history">']
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert 'class="answer invalid"' in text
    assert "study-digits" not in text


def test_contents_lead_to_every_part(text):
    """Each entry of the contents leads to a part of the page."""
    led = re.findall(r'<a href="#([^"]+)"', text)
    assert {"studies", "study-iris", "flags", "nights", "history", "methods"} <= set(led)
    assert all(f'id="{each}"' in text for each in led)


def test_page_needs_no_network_and_is_accessible(text):
    """Nothing is loaded from anywhere, each table has a caption, and each picture and line says what it shows."""
    assert not re.findall(r'(?:src|xlink:href)="http', text)
    assert len(re.findall(r"<caption>[^<]+</caption>", text)) == text.count("<table") == 4
    assert len(re.findall(r'role="img" aria-label="[^"]{30,}"', text)) == text.count("<figure") + text.count(
        'class="spark"'
    )


def test_history_has_a_line_for_each_group_and_measure(text):
    """Each group and measure of each study has a line over all nights, with tonight's value linked to its record."""
    lines = re.findall(r'class="spark" role="img" aria-label="([^"]+)"', text)
    assert len(lines) == len(set(lines)) == 2 * 2 * 2
    assert lines[0].endswith("flagged on 2025-12-03")
    assert 'href="http://mlflow/#/iris/2025-12-03"' in text


def test_past_nights_are_told(text):
    """Each night that was not quiet has a row with its headline, the newest first, and the strip counts verdicts."""
    past = text.partition('<section id="past">')[2].partition("</section>")[0]
    assert re.findall(r">(2025-\d\d-\d\d)</a>", past) == ["2025-12-03", "2025-12-02"]
    assert "torch went from 2.12 to 2.13." in past
    assert "2025-12-01 to 2025-12-03: 2 changed, 1 quiet." in text


@pytest.mark.parametrize("verdict", VERDICTS)
def test_page_of_each_verdict(verdict):
    """Each verdict has its page, also with no flag, no value and no night before; only bad ones are in red."""
    text = page([night(0, Watched("iris", verdict), studies=("iris",))], values(0))
    assert f"<strong>{verdict[0].upper()}{verdict[1:]}:</strong>" in text
    assert ('class="answer invalid"' in text) == (verdict in ("failed", "not deterministic"))
    assert "nan" not in main(text)
    assert '<figure id="figure-' not in text


def test_page_escapes_what_it_is_given():
    """A reason that looks like HTML is shown, not run, in flags and in the names of lines."""
    flag = Flag("checks", "<i>", "", "worse", "last night", "<script>alert(1)</script>")
    text = page([night(0, changed("iris", flag, BITS))], values(1, groups=('"><b>',)))
    assert "&lt;script&gt;alert(1)" in text
    assert "<script>alert" not in text
    assert "<b>" not in main(text)


def test_a_bad_night_is_told_in_short():
    """Of many flags the first are told one by one, and the others are in the table."""
    text = page([night(0, changed("iris", *[LOST] * 40))], values(1))
    assert text.count('<li class="worse">') == 10
    assert "and 30 more in the" in text
    assert main(text).partition('id="flags"')[2].partition("</section>")[0].count("<tr>") == 41
