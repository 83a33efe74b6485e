"""The values of a night that its history keeps: the means of each group, and measures of speed."""

from collections.abc import Mapping, Sequence

import pandas as pd

from tasks.core.design.columns import RANKED_MEASURES
from tasks.core.design.settings import short
from tasks.core.statistics.findings import Findings
from tasks.core.statistics.measures import factors
from tasks.core.watch import pace, speed

COLUMNS = ("night", "study", "group", "measure", "value", "link")


def values(night: str, findings: Findings, metrics: Mapping[str, float], link: str) -> pd.DataFrame:
    """Return a row for the mean of each group and ranked measure of a study, and one for each measure of speed.

    Groups have the names that flags give them. metrics, link: those of the benchmark's run.
    """
    names = factors(findings.cells)
    rows: list[tuple[object, ...]] = []
    for _, row in findings.comparison.iterrows():
        group = " · ".join([row["backend"], *(f"{short(name)} {row[name]}" for name in names), row["initializer"]])
        means = [(measure.name, row[measure.centre]) for measure in RANKED_MEASURES]
        rows += [(night, findings.study.name, group, name, float(value), link) for name, value in means]
    paced = pace.followed(metrics).items()
    rows += [(night, findings.study.name, each.backend, each.title, value, link) for each, value in paced]
    return pd.DataFrame(rows, columns=list(COLUMNS)).dropna(subset=["value"])


def paces(history: pd.DataFrame, study: str, nights: Sequence[str]) -> list[speed.Night]:
    """Return the measures of speed of a study in nights of its history, in their order."""
    own = history[history["study"] == study]
    found = []
    for name in nights:
        rows = own[own["night"] == name]
        keys = (pace.Measure(*key) for key in zip(rows["group"], rows["measure"], strict=True))
        known = {key: float(value) for key, value in zip(keys, rows["value"], strict=True) if key.title in pace.TITLES}
        found.append(speed.Night(name, known))
    return found
