"""The values of a night that its history keeps: the means of each group, and the speed."""

from collections.abc import Mapping

import pandas as pd

from tasks.core.design.columns import RANKED_MEASURES
from tasks.core.design.settings import short
from tasks.core.statistics.findings import Findings
from tasks.core.statistics.measures import factors

COLUMNS = ("night", "study", "group", "measure", "value", "link")


def values(night: str, findings: Findings, link: str, speeds: Mapping[str, float]) -> pd.DataFrame:
    """Return a row for the mean of each group and compared measure of a study, and one for each of its speeds.

    Groups have the names that flags give them. speeds: by the names of the metrics. link: the address of the benchmark.
    """
    names = factors(findings.cells)
    rows: list[tuple[object, ...]] = []
    for _, row in findings.comparison.iterrows():
        group = " · ".join([row["backend"], *(f"{short(name)} {row[name]}" for name in names), row["initializer"]])
        means = [(measure.name, row[measure.centre]) for measure in RANKED_MEASURES]
        rows += [(night, findings.study.name, group, name, float(value), link) for name, value in means]
    rows += [(night, findings.study.name, "", name, value, link) for name, value in speeds.items()]
    return pd.DataFrame(rows, columns=list(COLUMNS)).dropna(subset=["value"])
