"""How often families of real cells hold a false difference, and how many true ones they show.

`python -m tests.calibration.families` prints the tables in `tasks/core/statistics/README.md`; it takes some minutes.
"""

import numpy as np
from tabulate import tabulate

from tasks.core.design.columns import RESOLUTION, Measure
from tasks.core.statistics import inference, verdicts
from tasks.core.statistics.inference import ALPHA, Differences
from tests.calibration import table

DATASETS = ("iris", "wine", "breast_cancer", "digits")
SEEDS = (3, 5, 10, 30)
RIVALS = 8
PAIRS = np.triu_indices(RIVALS, 1)
STREAMS, OTHERS = [1, 2, 3, 4], [0, 4, 6, 7]  # of a partial null: streams that are alike, initializers that are not


def measure(dataset, name):
    """Return a measure of a dataset; losses are compared by their logarithms, so they have no step and no margin."""
    step = 1 / table.cells(dataset, "null").test_rows
    return (
        Measure(name, "", "", True, step, step=step) if name == "test_accuracy" else Measure(name, "", "", False, None)
    )


def values(dataset, kind, name):
    """Return accuracies, or the logarithms of losses, (rivals, seeds)."""
    found = table.values(dataset, kind, name)
    return np.log(np.maximum(found, RESOLUTION)) if name == "test_loss" else found


def alike(dataset, kind, name):
    """Return cells (rivals, seeds), and which pairs of these rivals are truly alike.

    null: streams of one initializer. centred: initializers, each less its mean, so that nothing but their means is
    alike. partial: four streams and four initializers. holes: (seeds,), an initializer that diverges in about half of
    its seeds.
    """
    if kind == "null":
        return values(dataset, "null", name), np.ones(len(PAIRS[0]), bool)
    if kind == "centred":
        found = values(dataset, "truth", name)
        return found - found.mean(1, keepdims=True), np.ones(len(PAIRS[0]), bool)
    if kind == "partial":
        found = [values(dataset, "null", name)[STREAMS], values(dataset, "truth", name)[OTHERS]]
        return np.concatenate(found), PAIRS[1] < len(STREAMS)
    return values(dataset, "holes", name)[-2], np.ones(len(PAIRS[0]), bool)


def drawn(rng, cells, seeds, families):
    """Yield so many families of cells with so many seeds each; of cells (seeds,) each rival has seeds of its own."""
    for _ in range(families):
        if cells.ndim == 1:
            yield rng.permutation(cells)[: RIVALS * seeds].reshape(RIVALS, seeds)
        else:
            yield cells[:, rng.choice(cells.shape[1], seeds, replace=False)]


def judged(cells, of, look=1):
    """Return a row per pair of a family (rivals, seeds), judged by a measure; NaN is a hole."""
    return verdicts.judged(_grid(cells), *map(list, PAIRS), of, look=look)


def _grid(cells):
    return verdicts.Grid(cells, np.isnan(cells), np.zeros(cells.shape, np.bool_))


def finishing(rng, dataset, seeds, families):
    """Return the shares of families in which of two that diverge alike one is told to finish more often, or always."""
    cells, _ = alike(dataset, "holes", "test_loss")
    each = (verdicts.finishing(_grid(part), *map(list, PAIRS)) for part in drawn(rng, cells, seeds, families))
    said = [(verdicts.BETTER, verdicts.WORSE), (verdicts.ALWAYS, verdicts.NEVER)]
    return np.mean([[rows["verdict"].isin(words).any() for words in said] for rows in each], axis=0)


def false(rng, dataset, kind, name, seeds, families):
    """Return the share of families in which a pair of two that are alike is called better or worse."""
    cells, pairs = alike(dataset, kind, name)
    of = measure(dataset, name)
    found = (judged(each, of)["verdict"][pairs] for each in drawn(rng, cells, seeds, families))
    return np.mean([each.isin((verdicts.BETTER, verdicts.WORSE)).any() for each in found])


def power(rng, dataset, name, seeds, families):
    """Return the shares of pairs of initializers that are told apart in truth's direction: by Holm's t, and now.

    Pairs with zeros, which is far worse than all others, are left out.
    """
    cells, of = values(dataset, "truth", name), measure(dataset, name)
    zeros = table.cells(dataset, "truth").rivals.index("zeros")
    left, right = PAIRS
    pairs = (left != zeros) & (right != zeros)
    truth = np.sign(cells.mean(1)[left] - cells.mean(1)[right])
    found = []
    for each in drawn(rng, cells, seeds, families):
        differences = Differences.of(each[left] - each[right], of.step)
        told = np.sign(differences.mean) == truth
        now = judged(each, of)["p"].to_numpy() < ALPHA
        found.append([told & (inference.holm(differences.p_zero()) < ALPHA), told & now])
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
    print(tabulate(list(rows(200)), headers="keys", floatfmt=".3f"))  # noqa: T201
    print(tabulate(list(rows_of_finishing(200)), headers="keys", floatfmt=".3f"))  # noqa: T201
