"""The page of an audit."""

import re
from dataclasses import replace

import numpy as np
import pytest

from tasks.core.audit import audit
from tasks.core.audit.sample import look
from tasks.core.report import audit_page, drawing
from tests.shared import audited


@pytest.fixture(scope="module")
def page():
    layers, draws = audited.plain()
    model = audited.Model(layers, {**draws, "l1.weight": lambda _: np.full((24, 24), 0.1)})
    first = audited.passed(np.array([1.0, 1.1, 0.9, 1.0]), np.ones(4))
    model.first_pass = lambda: replace(first, blocks=(("b.0", 1.5, 0.5), ("b.1", 2.0, np.nan)))
    found = audit.judge(look(model), "<m>:build")
    return audit_page.html(found, drawing.of_audit(found))


def test_the_page_says_what_was_found(page):
    """The verdict comes first, then a picture of variance, the findings, the parameters, the blocks and the layers."""
    places = [page.index(each) for each in ("Found 1 fault.", "figure-flow", 'id="findings"', 'id="parameters"')]
    assert places == sorted(places)
    assert "every unit has the same weights" in page
    assert page.index('id="blocks"') < page.index('id="layers"')
    assert "variance through 2 blocks 1.5 to 2 forward." in page
    assert "&lt;m&gt;:build" in page


def test_the_page_needs_no_network_and_is_accessible(page):
    """Nothing is loaded from anywhere, each table has a caption, and each picture says what it shows."""
    assert not re.findall(r'(?:src|xlink:href)="http', page)
    assert len(re.findall(r"<caption>[^<]+</caption>", page)) == page.count("<table")
    assert len(re.findall(r'role="img" aria-label="[^"]{30,}"', page)) == page.count("<figure") == 2
