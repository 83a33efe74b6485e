"""How often families of real cells hold a false difference, and how many true ones they show.

`python -m tests.calibration.families` prints the tables in `tasks/core/statistics/README.md`; it takes some minutes.
A number behind it is that of families for each figure, 400 unless given.
"""

import sys
from dataclasses import replace

import numpy as np
from tabulate import tabulate

from tasks.core.design.columns import MEASURES_BY_NAME, RESOLUTION
from tasks.core.statistics import family, inference, verdicts
from tasks.core.statistics.family import Family, Grid
from tasks.core.statistics.inference import ALPHA
from tasks.core.statistics.measures import margin_of_rate
from tests.calibration import table

DATASETS = ("iris", "wine", "breast_cancer", "digits")
SEEDS = (3, 5, 10, 30)
RIVALS = 8
PAIRS = np.triu_indices(RIVALS, 1)
STREAMS, OTHERS = [1, 2, 3, 4], [0, 4, 6, 7]  # of a partial null: streams that are alike, initializers that are not


def measure(dataset, name, values):
    """Return a measure with the step and margin that hold for values (rivals, seeds) of a dataset; NaN is a hole."""
    of = MEASURES_BY_NAME[name]
    if not of.step_is_a_test_row:
        return of
    row = 1 / table.cells(dataset, "null").test_rows
    rate = np.where(np.isfinite(values).mean(1) >= 0.5, 1 - inference.mean(values), np.inf)
    best = values[rate.argmin()]
    known = best[np.isfinite(best)]
    found = (rate.min(), known.var(ddof=1)) if len(known) > 1 and np.isfinite(rate.min()) else (np.nan, np.nan)
    margin, error = margin_of_rate(*found, row, values.shape[1])
    return replace(of, step=row, margin=margin, margin_error=error)


def alike(dataset, kind, name):
    """Return cells (rivals, seeds), and which pairs of these rivals are truly alike.

    null: streams of one initializer. centred: initializers whose losses are scaled to one geometric mean, so that
    nothing but their means is alike. partial: four streams and four initializers. holes: (seeds,), an initializer that
    diverges in about half of its seeds.
    """
    if kind == "null":
        return table.values(dataset, "null", name), np.ones(len(PAIRS[0]), bool)
    if kind == "centred":
        found = np.log(np.maximum(table.values(dataset, "truth", name), RESOLUTION))
        return np.exp(found - found.mean(1, keepdims=True)), np.ones(len(PAIRS[0]), bool)
    if kind == "partial":
        found = [table.values(dataset, "null", name)[STREAMS], table.values(dataset, "truth", name)[OTHERS]]
        return np.concatenate(found), PAIRS[1] < len(STREAMS)
    return table.values(dataset, "holes", name)[-2], np.ones(len(PAIRS[0]), bool)


def drawn(rng, cells, seeds, families):
    """Yield so many families of cells with so many seeds each; of cells (seeds,) each rival has seeds of its own."""
    for _ in range(families):
        if cells.ndim == 1:
            yield rng.permutation(cells)[: RIVALS * seeds].reshape(RIVALS, seeds)
        else:
            yield cells[:, rng.choice(cells.shape[1], seeds, replace=False)]


def grid(own):
    """Return values (rivals, seeds) as a grid; NaN is a hole."""
    return Grid(own, np.isnan(own), np.zeros(own.shape, np.bool_))


def of_all(own, of, *, controlled=1, look=1):
    """Return the family of all pairs of values (rivals, seeds) by a measure, controlled together with others."""
    left, right = map(list, np.triu_indices(len(own), 1))
    return Family.of(grid(own), left, right, of, controlled, look)


def judged(own, of, *, controlled=1, look=1):
    """Return a row per pair of a family (rivals, seeds), judged by a measure."""
    return family.judged(grid(own), *map(list, PAIRS), of, families=controlled, look=look)


def finishing(rng, dataset, seeds, families):
    """Return the shares of families in which one of two that diverge alike is told to finish more often, or always."""
    cells, _ = alike(dataset, "holes", "test_loss")
    each = (family.finishing(grid(part), *map(list, PAIRS)) for part in drawn(rng, cells, seeds, families))
    said = [(verdicts.BETTER, verdicts.WORSE), (verdicts.ALWAYS, verdicts.NEVER)]
    return np.mean([[rows["verdict"].isin(words).any() for words in said] for rows in each], axis=0)


def false(rng, dataset, kind, name, seeds, families):
    """Return the share of families in which two that are alike are told apart, be they equivalent, too, or not."""
    cells, pairs = alike(dataset, kind, name)
    each = drawn(rng, cells, seeds, families)
    return np.mean([of_all(own, measure(dataset, name, own)).p()[pairs].min() < ALPHA for own in each])


def power(rng, dataset, name, seeds, families):
    """Return the shares of pairs of initializers that are told apart in truth's direction: by Holm's t, and now.

    Pairs with zeros, which is far worse than all others, are left out.
    """
    cells, zeros = table.values(dataset, "truth", name), table.cells(dataset, "truth").rivals.index("zeros")
    left, right = PAIRS
    pairs = (left != zeros) & (right != zeros)
    found = []
    for own in drawn(rng, cells, seeds, families):
        of = measure(dataset, name, own)
        mean = of.scaled(cells).mean(1)
        one = of_all(own, of)
        told = np.sign(one.paired.mean) == np.sign(mean[left] - mean[right])
        found.append([told & (inference.holm(one.paired.p_zero()) < ALPHA), told & (one.p() < ALPHA)])
    return np.array(found)[..., pairs].mean((0, 2))


def rows(families):
    """Yield a row per measure, dataset and number of seeds."""
    for name in ("test_loss", "test_accuracy"):
        kinds = ("null", "centred", "partial", "holes") if name == "test_loss" else ("null", "partial", "holes")
        for dataset in DATASETS:
            for seeds in SEEDS:
                rng = np.random.default_rng(seeds)
                fit = [kind for kind in kinds if alike(dataset, kind, name)[0].size >= RIVALS * seeds]
                yield {
                    "measure": name,
                    "dataset": dataset,
                    "seeds": seeds,
                    **{kind: false(rng, dataset, kind, name, seeds, families) for kind in fit},
                    **dict(zip(("power, Holm", "power"), power(rng, dataset, name, seeds, families), strict=True)),
                }


def rows_of_finishing(families):
    """Yield a row per dataset and number of seeds, for an initializer that diverges in about half of its seeds."""
    for dataset in DATASETS:
        for seeds in SEEDS:
            if alike(dataset, "holes", "test_loss")[0].size >= RIVALS * seeds:
                often, always = finishing(np.random.default_rng(seeds), dataset, seeds, families)
                yield {"dataset": dataset, "seeds": seeds, "more often": often, "always against never": always}


if __name__ == "__main__":
    families = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    for found in (rows(families), rows_of_finishing(families)):
        print(tabulate(list(found), headers="keys", floatfmt=".3f"))  # noqa: T201
