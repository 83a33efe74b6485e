"""Whether the told number of seeds settles a pair: so many fresh seeds of real cells are drawn and judged.

`python -m tests.calibration.following` prints the table in `tasks/core/statistics/README.md`; it takes some minutes.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np
from tabulate import tabulate

from tasks.core.statistics import verdicts
from tests.calibration import families

MARGIN = np.log(1.1)  # of a logarithm of losses: 10 %
SEEDS = (5, 10, 20)  # with which a number is told
FOLLOWED = 4  # pairs of a family
BINS = (0, 20, 40, 100, verdicts.FAR + max(SEEDS))


def measure(dataset, name):
    """Return a measure with its margin."""
    of = families.measure(dataset, name)
    return of if of.margin else replace(of, margin=MARGIN)


def followed(rng, cells, of, count):
    """Return the told totals of seeds of undecided pairs, and whether so many fresh seeds settle each, (2, pairs)."""
    found = []
    for at in range(count):
        (few,) = families.drawn(rng, cells, SEEDS[at % len(SEEDS)], 1)
        rows = families.judged(few, of)
        told = rows["more_seeds"].to_numpy()
        for pair in rng.permutation(np.flatnonzero(told <= verdicts.FAR))[:FOLLOWED]:
            total = int(few.shape[1] + told[pair])
            fresh = cells[:, rng.choice(cells.shape[1], total, replace=total > cells.shape[1])]
            verdict = families.judged(fresh, of, look=2)["verdict"][pair]
            found.append((total, verdict != verdicts.UNDECIDED))
    return np.array(found, np.float64).reshape(-1, 2).T


def rows(count):
    """Yield a row per measure, dataset and kind of rivals: by told number, the share settled, of how many pairs."""
    for name in ("test_loss", "test_accuracy"):
        for dataset in families.DATASETS:
            for kind in ("truth", "null"):
                cells = families.values(dataset, kind, name)
                total, settled = followed(np.random.default_rng(0), cells, measure(dataset, name), count)
                row = {"measure": name, "dataset": dataset, "rivals": kind}
                for low, high in pairwise(BINS):
                    meant = (total > low) & (total <= high)
                    share = f"{settled[meant].mean():.2f} of {meant.sum()}" if meant.any() else ""
                    row[f"{low + 1} to {high}"] = share
                yield row


if __name__ == "__main__":
    print(tabulate(list(rows(90)), headers="keys"))  # noqa: T201
