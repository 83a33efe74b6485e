"""How well holds what is estimated beside the verdicts: the spread, the champion, and picks.

`python -m tests.calibration.estimates` prints the figures of `tasks/core/statistics/README.md` from the committed
cells, in a minute or two of computing. Given the file `tuning.csv` of an export it prints instead how well a few of its
tuning seeds pick: `initbench run iris-tuned --set tune.seeds=40 --set 'backends=[pytorch]' --export out`, and then
`python -m tests.calibration.estimates out/tuning.csv`.
"""

import sys

import numpy as np
import pandas as pd
from tabulate import tabulate

from tasks.core.design.columns import MEASURES_BY_NAME, RANKED
from tasks.core.statistics import inference
from tasks.core.statistics.champion import unseen
from tasks.core.statistics.spread import deviations
from tests.calibration import table
from tests.calibration.claims import DATASETS, drawn
from tests.calibration.draw import DRAWN, INITIALIZERS, SMALL

RUNS = 1000
OF_SPREAD = 30  # seeds
STEP = {name: 1 / table.cells(name, "null").test_rows for name in DATASETS}  # of an accuracy
TUNING = (3, 5, 10)  # seeds
PICKS = 200  # draws of tuning seeds


def of_sources(dataset, name):
    """Return real cells of each source, (3, 4 initializers, 8 draws, 200 seeds), and what `spread` averages, (3, n).

    The latter are of one seed and redraw each.
    """
    own = MEASURES_BY_NAME[name].scaled(table.values(dataset, "spread", name))
    own = own.reshape(len(INITIALIZERS), 3, DRAWN, -1).swapaxes(0, 1)
    return own, (np.square(own[:, :, 1:] - own[:, :, :1]) / 2).mean(1).reshape(3, -1)


def spread_covered(rng, dataset, name, runs):
    """Return by source how often the interval from 30 seeds contains the SD over all seeds, (3,)."""
    found = []
    for source in of_sources(dataset, name)[1]:
        _, low, high = deviations(source[rng.integers(len(source), size=(runs, OF_SPREAD))])
        found.append(np.mean((low <= np.sqrt(source.mean())) & (np.sqrt(source.mean()) <= high)))
    return np.array(found)


def held_covered(rng, dataset, name, runs):
    """Return by source how often a stream's SD, the others held at a seed, lies among 30 single seeds, (3,)."""
    own, squares = of_sources(dataset, name)
    found = []
    for source, held in zip(squares, np.sqrt(own.var(2, ddof=1).mean(1)), strict=True):
        single = np.sqrt(source[rng.integers(len(source), size=(runs, OF_SPREAD))])
        least, most = single.min(1)[:, None], single.max(1)[:, None]
        found.append(((least <= held) & (held <= most)).mean())
    return np.array(found)


def of_spread(runs):
    """Yield a row per dataset and measure of how often what is said of the spread holds."""
    rng = np.random.default_rng(0)
    for dataset in SMALL:
        for name in RANKED:
            covered, held = spread_covered(rng, dataset, name, runs), held_covered(rng, dataset, name, runs)
            own, squares = of_sources(dataset, name)
            weights = own.std(2, ddof=1)[-1]  # under each split
            row = {"dataset": dataset, "measure": name, "SD covered": covered.mean(), "worst source": covered.min()}
            row |= {"held seeds within": held.mean(), "SD by weights": np.sqrt(squares[-1].mean())}
            yield {**row, "of single splits, least": weights.min(), "most": weights.max()}


def of_champion(rng, dataset, kind, seeds, runs):
    """Return how much three accuracies are too high, and how often the expected one's interval holds.

    A few seeds of the rivals choose one of them. Its true accuracy is that over all seeds, and what is expected is that
    of a choice by half of these seeds.
    """
    accuracy = table.values(dataset, kind, "test_accuracy")
    true, found = accuracy.mean(1), []
    for own in drawn(rng, accuracy, seeds, runs):
        best = own.mean(1).argmax()
        expected = -unseen([-own], seed=0)
        low, high = inference.intervals(expected[None], steps=STEP[dataset], seed=inference.BOOTSTRAP_SEED)
        too_high = own[best].max(), own[best].mean(), expected.mean()
        found.append((*(each - true[best] for each in too_high), low[0] <= true[best] <= high[0]))
    cell, mean, expected, covered = np.mean(found, 0)
    return {"the best cell's": cell, "the best mean": mean, "expected": expected, "covered": covered}


def of_champions(runs):
    """Yield a row per dataset, kind of rivals and number of seeds."""
    for dataset in DATASETS:
        for kind in ("null", "truth"):
            for seeds in (5, 10, 30):
                found = of_champion(np.random.default_rng(seeds), dataset, kind, seeds, runs)
                yield {"dataset": dataset, "rivals": kind, "seeds": seeds, **found}


def of_picks(cells, seeds, draws):
    """Return how well so many tuning seeds pick, of cells with a column `validation_loss`.

    right: the share of picks that are best over all tuning seeds. above: by how much the pick's loss, over all, is on
    average above the best one's. uncertain: the share of picks from which another value's mean lies less than the
    standard error of the pick's away.
    """
    keys = ["backend", "initializer"]
    setting = next(name for name in cells.columns[2:] if name != "initializer")
    rng, found = np.random.default_rng(0), []
    for _, group in cells.groupby(keys, sort=False):
        wide = group.pivot_table("validation_loss", setting, "seed").to_numpy(np.float64)
        whole = wide.mean(1)
        for own in drawn(rng, wide, seeds, draws):
            mean = own.mean(1)
            pick = mean.argmin()
            near = np.abs(np.delete(mean, pick) - mean[pick]) <= own[pick].std(ddof=1) / np.sqrt(seeds)
            found.append((whole[pick] == whole.min(), whole[pick] / whole.min() - 1, near.any()))
    return {"seeds": seeds, **dict(zip(("right", "above", "uncertain"), np.mean(found, 0), strict=True))}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        tables = [[of_picks(pd.read_csv(sys.argv[1]), seeds, PICKS) for seeds in TUNING]]
    else:
        tables = [list(of_spread(RUNS)), list(of_champions(RUNS))]
    for rows in tables:
        print(tabulate(rows, headers="keys", floatfmt=".4f"))  # noqa: T201
