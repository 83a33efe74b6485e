"""Checks: does a study's claim hold? Each claim is held against the cells of each backend."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from tasks.core.design.columns import CLAIMS
from tasks.core.design.parts import Scalar
from tasks.core.design.settings import Check

HELD, NOT_HELD, NOT_TESTED = "held", "not held", "not tested"


def judge(checks: Sequence[Check], cells: pd.DataFrame) -> pd.DataFrame:
    """Return one row per check and backend, with the columns `columns.CLAIMS`.

    measured: the median of the check's measure over its cells, NaN if one of them has no number; or, if the check
    names a health or `diverged`, the share of its cells with this health or status. With `against`, measured is divided
    by the same number of the cells that `against` names. result: HELD if measured is within the bounds, else NOT_HELD,
    also for NaN; NOT_TESTED if the grid has no such cells. cells: how many there are.
    """
    rows = [
        (check.claim, backend, *_judged(check, group))
        for check in checks
        for backend, group in cells.groupby("backend", sort=False)
    ]
    return pd.DataFrame(rows, columns=list(CLAIMS))


def _judged(check: Check, cells: pd.DataFrame) -> tuple[float, str, int, str]:
    """Return what was measured, what is allowed, the number of cells and the result."""
    meant = _where(cells, check.where)
    others = None if check.against is None else _where(cells, check.against)
    tested = len(meant) > 0 and (others is None or len(others) > 0)
    measured = _measured(check, meant) if tested else np.nan
    if tested and others is not None:
        measured = float(np.divide(measured, _measured(check, others)))
    low = -np.inf if check.at_least is None else check.at_least
    high = np.inf if check.at_most is None else check.at_most
    result = NOT_TESTED if not tested else HELD if low <= measured <= high else NOT_HELD
    return measured, _allowed(check), len(meant), result


def _where(cells: pd.DataFrame, where: Mapping[str, Scalar]) -> pd.DataFrame:
    for axis, value in where.items():
        cells = cells[cells[axis] == value]
    return cells


def _measured(check: Check, cells: pd.DataFrame) -> float:
    if check.measure in cells:
        return float(np.median(cells[check.measure].to_numpy(np.float64)))
    column = "status" if check.measure == "diverged" else "health"
    return float((cells[column] == check.measure).mean())


def _allowed(check: Check) -> str:
    bounds = [
        f"{words} {bound:g}"
        for words, bound in (("at least", check.at_least), ("at most", check.at_most))
        if bound is not None
    ]
    return " and ".join(bounds)


def lines(judged: pd.DataFrame) -> list[str]:
    """Return a line per claim: its result, and beside each backend's measured number what is allowed."""
    return [
        f"{_overall(rows['result']).capitalize()}: {claim} ("
        + ", ".join(f"{row['backend']} {row['measured']:.3g}" for _, row in rows.iterrows())
        + f"; {rows['allowed'].iloc[0]})"
        for claim, rows in judged.groupby("claim", sort=False)
    ]


def not_held(judged: pd.DataFrame) -> list[str]:
    """Return the claims that do not hold, or could not be tested, in some backend."""
    return list(dict.fromkeys(judged.loc[judged["result"] != HELD, "claim"]))


def _overall(results: pd.Series) -> str:
    """Return the worst of several results."""
    for result in (NOT_HELD, NOT_TESTED):
        if (results == result).any():
            return result
    return HELD
