"""How soon a planted change is found: `python -m tests.benchmarks.watch.planted`; a number is that of series, 20.

Quiet nights as in `quiet.py`, and then nights that all hold the change. A change is found in a night that flags the
study it is in; the nights of the other studies stay quiet, and share the errors. The README has the last result.
"""

import sys
from dataclasses import dataclass

import numpy as np
from tabulate import tabulate

from tasks.core.watch import changes
from tasks.core.watch.paired import Cells
from tests.benchmarks.watch import rivals
from tests.benchmarks.watch.cells import STUDIES, WATCHED, Series, night, quiet

BEFORE, AFTER = 8, 4  # nights
BACKEND = "pytorch"


@dataclass(frozen=True)
class Change:
    """A change of a study from some night on.

    measure, by: what changes in all cells of a backend, of one initializer if it says so: an accuracy by a difference
    of its mean, a loss by a factor. fault: the cells that were trained with this fault in both backends; with a measure
    as well, the change comes on top of a fault that moves no mean.
    """

    name: str
    study: str = "iris"
    measure: str = ""
    by: float = 0.0
    initializer: str = ""
    fault: str = ""

    def planted(self, rng, cells):
        """Return the cells of a night with the change."""
        if self.fault:
            cells = night(self.study, cells["seed"].unique(), (self.fault,) * len(STUDIES[self.study].backends))
        if not self.measure:
            return cells
        meant = (cells["backend"] == BACKEND) & (cells["initializer"] == (self.initializer or cells["initializer"]))
        value = cells[self.measure].to_numpy(copy=True)
        rows = cells["test_rows"].to_numpy(int)
        lost = rng.binomial(rows, self.by) / rows  # rows that are no longer right
        changed = value * (1 + self.by) if self.measure == "test_loss" else np.maximum(value - lost, 0)
        return cells.assign(**{self.measure: np.where(meant, changed, value)})


CHANGES = (
    *(Change(f"accuracy of a backend -{by}", measure="test_accuracy", by=by) for by in (0.01, 0.02, 0.05)),
    *(Change(f"loss of a backend +{by:.0%}", measure="test_loss", by=by) for by in (0.02, 0.05, 0.10, 0.15)),
    *(
        Change(f"{what} of one initializer {told}", measure=measure, by=by, initializer="he_normal")
        for what, told, measure, by in (
            ("accuracy", "-0.05", "test_accuracy", 0.05),
            ("loss", "+10%", "test_loss", 0.10),
            ("loss", "+15%", "test_loss", 0.15),
        )
    ),
    *(
        Change(f"other orders of rows, and loss +{by:.0%}", measure="test_loss", by=by, fault="order")
        for by in (0.10, 0.20, 0.40)
    ),
    Change("variance of he_normal -12%", fault="variance"),
    Change("stream of weights swapped", fault="weights"),
    Change("stream of orders swapped", fault="order"),
    Change("momentum of batch normalization", study="normalized", fault="momentum"),
)


def drawn(rng, change):
    """Draw the series of all studies, one of them with a change."""
    series = [quiet(rng, name, BEFORE + AFTER, cellwise=False) for name in WATCHED]
    place = WATCHED.index(change.study)
    nights = series[place].nights
    changed = [Cells(change.planted(rng, each.rows)) for each in nights[BEFORE:]]
    series[place] = Series(change.study, [*nights[:BEFORE], *changed])
    return series


def found(change, studies):
    """Return of each night with the change whether it is found, by method."""
    place = WATCHED.index(change.study)
    ours = [changes.flags([each.tonight(at) for each in studies])[place] for at in range(BEFORE, BEFORE + AFTER)]
    others = {name: told[BEFORE - 1 :] for name, told in rivals.raised([each.nights for each in studies]).items()}
    return {"the watch": list(map(bool, ours)), **others}


def row(change, series):
    """Return how often each method finds a change in its first night, and in any of its nights."""
    rng = np.random.default_rng(0)
    each = [found(change, drawn(rng, change)) for _ in range(series)]
    told = {"change": change.name}
    for name in each[0]:
        nights = np.array([one[name] for one in each])
        soon = nights.argmax(1)[nights.any(1)] + 1
        told[name] = f"{nights[:, 0].mean():.2f}, {nights.any(1).mean():.2f}" + (
            f", {np.median(soon):.0f}" if len(soon) else ""
        )
    return told


if __name__ == "__main__":
    series = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    print("found in the first night, in any of the nights, and the median night")  # noqa: T201
    print(tabulate([row(change, series) for change in CHANGES], headers="keys", tablefmt="github"))  # noqa: T201
