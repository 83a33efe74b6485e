"""The page of two runs side by side."""

import re

import pytest

from tasks.core.report import drawing
from tasks.core.report.runs_page import html
from tasks.core.statistics.side_by_side import SideBySide
from tests.shared.reports import ENVIRONMENT, findings
from tests.shared.samples import noisy

LINKS = ("http://mlflow/#/first", "http://mlflow/#/second")


def page(first, second, environment=ENVIRONMENT):
    beside = SideBySide(first, second, ENVIRONMENT, environment)
    return html(beside, drawing.of_runs(beside), LINKS)


@pytest.fixture(scope="module")
def first():
    return findings()


def test_page_says_whether_the_answer_changes(first):
    """The page begins with the answer, and holds what differs: versions, verdicts, cells, with links to both runs."""
    worse = noisy()
    worse.loc[worse["initializer"] == "he_normal", "test_loss"] += 3
    text = page(first, findings(worse), ENVIRONMENT | {"packages": {"torch": "2.14"}})
    assert "<h1>iris: does the answer change?</h1>" in text
    assert "<strong>The answer changes:</strong>" in text
    assert "Environment, packages.torch: 2.13 before, 2.14 after" in text
    assert "<td>he_normal against zeros, better before, worse after</td>" in text
    assert re.findall(r'<section id="(\w+)"', text) == ["runs", "verdicts", "cells"]
    contents = re.findall(r'<a href="#(?:runs|verdicts|cells)">(.+)</a>', text)
    assert contents == ["Runs", "Table of verdicts", "Table of cells"]
    assert text.count("<figure") == 1
    assert all(f'href="{link}"' in text for link in LINKS)


def test_page_of_equal_runs(first):
    """Runs whose cells are equal have a page too, which says so and has nothing to draw."""
    text = page(first, first)
    assert "The answer does not change" in text
    assert "no cell that both have differs" in text
    assert re.findall(r'<section id="(\w+)"', text) == ["runs"]
    assert "no cell is in both" in page(first, findings(recipe={"epochs": 3}))
    assert "<figure" not in text.partition("<main>")[2].partition("</main>")[0]
