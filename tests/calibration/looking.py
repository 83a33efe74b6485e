"""How often rivals that are alike seem to differ, if seeds are added and the family is judged again and again.

`python -m tests.calibration.looking` prints the table in `tasks/core/statistics/README.md`; it takes some minutes. A
number behind it is that of families for each figure, 200 unless given.
"""

import sys

import numpy as np
from tabulate import tabulate

from tasks.core.statistics import inference
from tasks.core.statistics.inference import ALPHA
from tests.calibration import families, table

LOOKS = 6
MOST = 40  # seeds that are added at once


def false(rng, dataset, name, seeds, count):
    """Return the shares of families with a false difference in any of the looks: by unpaid Holm's t, and now.

    A family begins with so many seeds, and each later look has more: as many as some undecided pair was told.
    """
    cells = table.values(dataset, "null", name)
    found = [_looked(cells[:, rng.permutation(cells.shape[1])], dataset, name, seeds) for _ in range(count)]
    return np.mean(found, axis=0)


def _looked(cells, dataset, name, seeds):
    """Return whether any look sees a difference, by Holm's t unpaid, and now."""
    seen = np.zeros(2, bool)
    for look in range(1, LOOKS + 1):
        few = cells[:, :seeds]
        of = families.measure(dataset, name, few)
        now = families.judged(few, of, look=look)
        holm = inference.holm(families.of_all(few, of).paired.p_zero())
        seen |= [p.min() < ALPHA for p in (holm, now["p"])]
        seeds += int(min(np.nanmin([*now["more_seeds"], MOST]), MOST))
    return seen


def rows(count):
    """Yield a row per measure, dataset and number of seeds at first."""
    for name in ("test_loss", "test_accuracy"):
        for dataset in families.DATASETS:
            for seeds in (5, 10):
                shares = false(np.random.default_rng(seeds), dataset, name, seeds, count)
                names = ("Holm's t, unpaid", "paid")
                yield {"measure": name, "dataset": dataset, "seeds": seeds, **dict(zip(names, shares, strict=True))}


if __name__ == "__main__":
    print(tabulate(list(rows(int(sys.argv[1]) if len(sys.argv) > 1 else 200)), headers="keys", floatfmt=".3f"))  # noqa: T201
