"""No factor can have the name of a column: of a table, or of what a computation adds to cells for a while."""

import ast
from pathlib import Path

import pandas as pd
import pytest

from tasks.core.design.columns import RESERVED, reserved
from tasks.core.design.settings import Check
from tasks.core.statistics.ranks import ranks_table
from tasks.core.statistics.side_by_side import SideBySide
from tests.shared.reports import findings
from tests.shared.samples import noisy

CORE = Path(__file__).parents[3] / "tasks" / "core"
SOURCES = sorted(path for wing in ("statistics", "report") for path in (CORE / wing).glob("*.py"))


def levels(factor, values, **study):
    """Return the findings of noisy cells at each value of a factor."""
    name = factor.rpartition(".")[2]
    frame = pd.concat([noisy(**{name: value}) for value in values], ignore_index=True)
    return findings(frame, factors={factor: values}, **study)


@pytest.fixture(scope="module")
def tables():
    claim = Check(claim="it trains", measure="test_accuracy", at_least=0.5)
    found = levels("network.depth", (2, 3), network={"width": 8, "depth": 2}, checks=(claim,))
    streams = {"everything": {}, "split": {"recipe.order_seed": 0, "network.weights_seed": 0}}
    beside = SideBySide(found, found, {}, {})
    return {
        "cells": found.cells,
        "comparison": found.comparison,
        "pairs": found.pairs,
        "backends": found.backends,
        "ranks": ranks_table(found.rankings),
        "checks": found.judged,
        "defaults": levels("weights", ("native", "shared")).defaults,
        "spread": levels("varied", streams).spread,
        "side by side": beside.cells,
        "runs": beside.verdicts,
    }


def test_columns_of_tables_are_reserved(tables):
    """Every column of every table is the factor, or a name that no factor can have."""
    for name, rows in tables.items():
        assert len(rows), name
        assert [column for column in rows if column not in ("depth", "weights") and not reserved(column)] == [], name


def test_working_columns_are_reserved():
    """A column that a computation adds to a table would overwrite a factor of its name, so the name is reserved."""
    added = [
        (path.name, keyword.arg)
        for path in SOURCES
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "assign"
        for keyword in call.keywords
        if keyword.arg
    ]
    assert len(added) > 10
    assert [each for each in added if each[1] not in RESERVED] == []
