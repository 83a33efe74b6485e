"""No factor can have the name of a column: of a table, or of what a computation adds to cells for a while."""

import ast
from pathlib import Path

import pandas as pd
import pytest

from tasks.core.design.columns import RESERVED, SIDE_BY_SIDE, TABLES, WORKING, reserved
from tasks.core.design.settings import Check
from tasks.core.statistics.ranks import ranks_table
from tasks.core.statistics.side_by_side import SideBySide
from tests.shared.reports import findings
from tests.shared.samples import noisy
from tests.shared.tuned import tuned_findings

TASKS = Path(__file__).parents[3] / "tasks"
WINGS = ("training", "statistics", "report")
SOURCES = [TASKS / "comparison.py", *sorted(path for wing in WINGS for path in (TASKS / "core" / wing).glob("*.py"))]


def levels(factor, values, **study):
    """Return the findings of noisy cells at each value of a factor."""
    name = factor.rpartition(".")[2]
    frame = pd.concat([noisy(**{name: value}) for value in values], ignore_index=True)
    return findings(frame, factors={factor: values}, **study)


@pytest.fixture(scope="module")
def tables():
    claim = Check(claim="it trains", measure="test_accuracy", at_least=0.5)
    found = levels("network.depth", (2, 3), network={"width": 8, "depth": 2}, checks=(claim,))
    streams = {"nothing": {}, "split": {"split.seed": "redrawn"}}
    beside = SideBySide(found, found, {}, {})
    return {
        "cells": found.cells,
        "comparison": found.comparison,
        "pairs": found.pairs,
        "backends": found.backends,
        "ranks": ranks_table(found.rankings),
        "checks": found.judged,
        "defaults": levels("weights", ("native", "shared")).defaults,
        "spread": levels("redrawn", streams).spread,
        "picks": tuned_findings().tuned,
        "picked": tuned_findings().comparison,
        "rates": levels("recipe.learning_rate", (0.1, 0.2)).over_rates,
        "side by side": beside.cells,
        "runs": beside.verdicts,
    }


def test_columns_of_tables_are_reserved(tables):
    """Every column of every table is the factor, or a name that no factor can have."""
    for name, rows in tables.items():
        assert len(rows), name
        assert [column for column in rows if column not in ("depth", "weights") and not reserved(column)] == [], name
    assert tuple(tables["side by side"])[-len(SIDE_BY_SIDE) :] == SIDE_BY_SIDE


def added(source):
    """Yield the names of columns that a source gives to tables."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(attr="assign"), keywords=keywords):
                yield from (keyword.arg for keyword in keywords if keyword.arg)
            case ast.Call(func=ast.Attribute(attr="rename"), keywords=keywords):
                new = [name for each in keywords if isinstance(each.value, ast.Dict) for name in each.value.values]
                yield from (name.value for name in new if isinstance(name, ast.Constant))
            case ast.Subscript(slice=ast.Constant(str(name)), ctx=ast.Store()):
                yield name


def test_every_way_of_adding_a_column_is_seen():
    """Columns come by assign, by an index on the left side, and by a new name for an old column."""
    source = 'a.assign(x=1)\nb["y"] = 2\nc["z"], d = 3, 4\ne.rename(columns={"v": "w"})\nf[0] = g["u"]'
    assert sorted(added(source)) == ["w", "x", "y", "z"]


def test_working_columns_are_reserved():
    """A column that a computation adds to a table would overwrite a factor of its name, so the name is reserved.

    The list of such names holds no others, and none that another table has.
    """
    names = {(path.name, name) for path in SOURCES for name in added(path.read_text())}
    assert len(names) > 10
    assert [each for each in sorted(names) if each[1] not in RESERVED] == []
    others = {name for table in TABLES if table is not WORKING for name in table}
    assert set(WORKING) == {name for _, name in names} - others
