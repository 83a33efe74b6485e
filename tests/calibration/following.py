"""Whether the told number of seeds settles a pair: so many fresh seeds of real cells are drawn and judged.

`python -m tests.calibration.following` prints the table in `tasks/core/statistics/README.md`; it takes some minutes. A
number behind it is that of pairs that each share is of, 40 unless given.
"""

import sys
from itertools import pairwise

import numpy as np
from tabulate import tabulate

from tasks.core.statistics import verdicts
from tests.calibration import families, table
from tests.calibration.claims import FAMILIES, RANKED

SEEDS = (5, 10, 20)  # with which a number is told
KINDS = ("truth", "null")  # of rivals, in turn
FOLLOWED = 1  # pairs of a family, whose numbers are alike because its margin is
MOST = 900  # families, if some bin does not fill
BINS = (0, 70, 100, 150, verdicts.FAR + max(SEEDS))


def followed(rng, dataset, name, enough, most=MOST):
    """Return told totals of seeds of undecided pairs, and whether so many fresh seeds settle each, (2, pairs).

    Families of initializers and of streams that are alike take turns, until each bin has enough pairs,
    or there were most families. They are judged
    as in a run with two backends, on a first look, and the fresh seeds as on a second one.
    """
    cells = [table.values(dataset, kind, name) for kind in KINDS]
    found, filled = [], np.zeros(len(BINS) - 1, int)
    for at in range(most):
        whole, number = cells[at % len(KINDS)], SEEDS[at // len(KINDS) % len(SEEDS)]
        (few,) = families.drawn(rng, whole, number, 1)
        rows = families.judged(few, families.measure(dataset, name, few), controlled=FAMILIES)
        total = number + rows["more_seeds"].to_numpy()
        told = rng.permutation(np.flatnonzero(total <= number + verdicts.FAR))
        places = np.searchsorted(BINS, total[told]) - 1
        for pair, place in [*zip(told, places, strict=True)][:FOLLOWED] if len(told) else ():
            if filled[place] < enough:
                filled[place] += 1
                found.append((total[pair], _settled(rng, whole, dataset, name, int(total[pair]), pair)))
        if filled.min() >= enough:
            break
    return np.array(found, np.float64).reshape(-1, 2).T


def _settled(rng, cells, dataset, name, number, pair):
    """Return whether so many fresh seeds give a pair a verdict."""
    fresh = cells[:, rng.choice(cells.shape[1], number, replace=number > cells.shape[1])]
    one = families.of_all(fresh, families.measure(dataset, name, fresh), controlled=FAMILIES, look=2)
    return one.verdicts(one.p(), one.p_equivalent())[pair] != verdicts.UNDECIDED


def by_bin(total, settled):
    """Return by told number the share that was settled, and of how many pairs."""
    row = {}
    for low, high in pairwise(BINS):
        meant = (total > low) & (total <= high)
        row[f"{low + 1} to {high}"] = f"{settled[meant].mean():.2f} of {meant.sum()}" if meant.any() else ""
    return row


def rows(enough):
    """Yield a row per measure and dataset, and one over all datasets."""
    for name in RANKED:
        found = [followed(np.random.default_rng(0), dataset, name, enough) for dataset in families.DATASETS]
        for dataset, each in zip((*families.DATASETS, "all"), (*found, np.concatenate(found, 1)), strict=True):
            yield {"measure": name, "dataset": dataset, **by_bin(*each)}


if __name__ == "__main__":
    print(tabulate(list(rows(int(sys.argv[1]) if len(sys.argv) > 1 else 40)), headers="keys"))  # noqa: T201
