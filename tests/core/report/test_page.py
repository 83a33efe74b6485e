"""The report's page and texts; how the page behaves in a browser is in tests/flows/test_page.py."""

import re

import numpy as np
import pandas as pd
import pytest

from tasks.core.design.settings import Check
from tasks.core.report.details import details
from tasks.core.report.page import latex, markdown
from tests.shared.reports import findings, page
from tests.shared.samples import THREE, history, layers, noisy
from tests.shared.tuned import tuned_findings


@pytest.fixture(scope="module")
def small():
    return page(findings())


def test_page_needs_no_network(small):
    """Nothing in the page is loaded from anywhere: the only addresses are links that a reader may follow."""
    loaded = re.findall(r'(?:src|href|url)\s*[=(]\s*"?([^"\s>)]+)', small)
    assert {each.partition(":")[0] for each in loaded if not each.startswith("#")} <= {"http", "data"}
    assert set(re.findall(r'<a href="(http[^"]*)"', small)) == {"http://mlflow/#/run", "http://mlflow/#/r"}
    assert not re.findall(r'(?:src|xlink:href)="http', small)


def test_page_is_accessible(small):
    """It has a language, a title, a heading a section, a caption a table, and each picture says what it shows."""
    assert '<html lang="en">' in small
    assert len(re.findall(r"<caption>[^<]+</caption>", small)) == small.count("<table")
    assert len(re.findall(r'role="img" aria-label="[^"]{30,}"', small)) == small.count("<figure")
    assert small.count('<th scope="col">') == len(re.findall(r"<th[ >]", small))


def test_page_escapes_what_it_is_given():
    """A reason that looks like HTML is shown, not run."""
    frame = noisy()
    frame.loc[0, ["status", "reason"]] = ["failed", "<script>alert(1)</script>"]
    text = page(findings(frame))
    assert "&lt;script&gt;alert(1)" in text
    assert "<script>alert" not in text


def test_page_of_nothing():
    """A benchmark of which every cell failed has its page all the same."""
    text = page(findings(noisy().assign(status="failed", test_accuracy=np.nan, test_loss=np.nan)))
    assert "</strong> no initializer trains here. Of each, more than half of the cells failed." in text
    assert "nan" not in re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL).lower().replace("finance", "")


def test_page_of_a_thousand_cells_is_below_3_mb():
    """A page of 1,008 cells is below 3 MB: of 2 levels with all pictures, and of 42 initializers with many pairs."""
    depths = (2, 3)
    frame = pd.concat([noisy(84, THREE, depth=depth) for depth in depths], ignore_index=True)
    found = findings(frame, seeds=84, network={"width": 8, "depth": 2}, factors={"network.depth": depths})
    assert len(found.cells) == 1008
    text = page(found, layers(depths), history(depths, epochs=20))
    assert len(text.encode()) < 3_000_000
    labels = tuple(f"random_normal(std=0.{at:02d})" for at in range(1, 43))
    text = page(findings(noisy(12, labels), initializers=labels, seeds=12))
    assert len(text.encode()) < 3_000_000
    assert "the others are in pairs.csv" in text


def test_markdown_is_githubs():
    """The answer comes first, tables are GitHub's, the details come last; the text fits into an issue."""
    text = markdown(findings(), "[In MLflow](http://mlflow/#/run)", "http://mlflow/comparison.svg")
    assert text.startswith("## iris\n\n- PyTorch: he_normal or glorot_uniform. ")
    places = [text.index(part) for part in ("![", "[In MLflow]", "|----", "### Backends", "### Details", "All this is")]
    assert places == sorted(places)
    assert "|-----" in text
    assert "### Backends" in text
    assert len(text) < 65_536
    assert "### Backends" not in markdown(findings(noisy(backends=("keras",)), backends=("keras",)), "")


def test_latex_comments_stay_comments():
    """Words that break lines cannot leave their comment."""
    claim = Check(claim="one\n\\input{x} two", measure="test_accuracy", at_least=0)
    lines = latex(findings(checks=(claim,))).splitlines()
    assert [line[0] for line in lines if "input{x}" in line] == ["%"]


def test_latex_is_booktabs():
    """The tables are booktabs, signs are commands, underscores are escaped, words are comments."""
    text = latex(findings(initializers=THREE))
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 2
    tables = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert r"he\_normal" in tables
    assert r"$\times$" in tables
    assert not re.search(r"[^\\]_", tables)
    assert tables.isascii()
    assert text.startswith("% ")


def test_texts_say_under_what_settings(small):
    """Page, comparison.md and comparison.tex say each at its best, with the picks and the budget, or at one recipe."""
    tuned = tuned_findings()
    texts = [page(tuned), markdown(tuned, ""), latex(tuned)]
    for text in texts:
        assert "each at its best learning rate" in text
        assert "Tuning took 24 cells, the comparison 12." in text
        assert "At the edge of the grid" in text
        assert "at one recipe" not in text
        assert "0.1 (edge)" in text
    assert "Picks; validation loss at each learning rate, mean ± SD over 2 seeds of their own" in texts[0]
    assert 'aria-label="Picks. By value of the tuned setting' in texts[0]
    assert "### Picks" in texts[1]
    plain = findings()
    for text in (small, markdown(plain, ""), latex(plain)):
        assert "Initializers are compared at one recipe." in text
        assert "at its best learning rate" not in text
    assert "Initializers at one recipe, best first" in small


def test_verdicts_over_learning_rates_are_told():
    """With the learning rate as a factor the page has a table of verdicts that says at how many rates each holds."""
    frame = pd.concat([noisy(learning_rate=rate) for rate in (0.001, 0.1)], ignore_index=True)
    turned = (frame["learning_rate"] == 0.1) & (frame["initializer"] == "he_normal")
    frame.loc[turned, "test_accuracy"] -= 0.7  # below that of zeros
    found = findings(frame, factors={"recipe.learning_rate": (0.001, 0.1)})
    text = page(found)
    assert "Verdicts over learning rates" in text
    assert "1 of 2" in text
    assert "Initializers at each of 2 learning rates, best first" in text
    (line,) = (line for line in details(found) if line.startswith("pytorch, by test accuracy"))
    assert line.endswith("Reversed between rates: he_normal against zeros.")
