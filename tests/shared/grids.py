"""Grids whose truth is known: what initializers do to each seed is made up, ties as heavy as on Iris.

`python -m tests.shared.grids` reports, for 5, 10 and 30 seeds, how often intervals cover the truth and how often a
difference is seen that is not there.
"""

import numpy as np
from tabulate import tabulate

from tasks.core.design.columns import Measure
from tasks.core.statistics import inference, verdicts
from tasks.core.statistics.inference import ALPHA, Differences

ROWS = 30  # of test, as Iris has
RIVALS = 8
TIED = 0.785  # share of cells with as many errors as their split makes: then 0.65 of paired differences are ties
HARD = 1.5  # errors that a split makes on average, with an SD of 1.2 that puts accuracies 0.04 apart
WORSE = 0.4  # errors more of the last rival where differences are known: 0.013 of accuracy
SEEDS = (5, 10, 30)
HOLES = (0.1, 0.3)  # shares of cells that diverge


def accuracies(rng, grids, seeds, worse=0.0):
    """Return accuracies (grids, rivals, seeds) and their expected values (rivals,), relative to the first."""
    split = rng.binomial(5, HARD / 5, (grids, 1, seeds))
    own = rng.choice([-1, 0, 1], p=[(1 - TIED) / 2, TIED, (1 - TIED) / 2], size=(grids, RIVALS, seeds))
    extra = np.zeros((grids, RIVALS, seeds))
    extra[:, -1] = rng.random((grids, seeds)) < worse
    expected = np.zeros(RIVALS)
    expected[-1] = -worse / ROWS
    return 1 - (split + own + extra + 1) / ROWS, expected


def losses(rng, grids, seeds, worse=0.0):
    """Return losses (grids, rivals, seeds) and their expected values relative to the first, as of `accuracies`."""
    split = 0.12 * np.exp(0.35 * rng.standard_normal((grids, 1, seeds)))
    own = 0.03 * rng.standard_normal((grids, RIVALS, seeds))
    expected = np.zeros(RIVALS)
    expected[-1] = 0.03 * worse
    return split + own + expected[:, None], expected


MEASURES = {"accuracy": (accuracies, 1 / ROWS), "loss": (losses, 0.0)}
ACCURACY = Measure("test_accuracy", "", "", True, 1 / ROWS, step=1 / ROWS)
LOSS = Measure("test_loss", "", "", False, 0.02)
PAIRS = np.triu_indices(RIVALS, 1)


def differences(values, step):
    """Return the paired differences of all grids and pairs."""
    between = values[:, PAIRS[0]] - values[:, PAIRS[1]]
    return Differences.of(between.reshape(-1, values.shape[-1]), step)


def coverage(rng, measure, seeds, grids, worse):
    """Return the share of paired differences, and of means of single groups, whose interval covers the truth."""
    make, step = MEASURES[measure]
    values, expected = make(rng, grids, seeds, worse)
    found = differences(values, step)
    truth = np.tile(expected[PAIRS[0]] - expected[PAIRS[1]], grids)
    paired = (found.low <= truth + 1e-9) & (truth - 1e-9 <= found.high)
    groups = values[:, -1]
    low, high = inference.intervals(groups, steps=step, seed=0)
    mean = make(np.random.default_rng(0), 20_000, 20, worse)[0][:, -1].mean()
    return paired.mean(), ((low <= mean) & (mean <= high)).mean()


def false_positives(rng, measure, seeds, grids):
    """Return the share of pairs, and of grids, in which Holm's adjustment leaves a difference that is not there."""
    make, step = MEASURES[measure]
    p = differences(make(rng, grids, seeds)[0], step).p_zero().reshape(grids, -1)
    adjusted = np.array([inference.holm(each) for each in p])
    return (p < ALPHA).mean(), (adjusted < ALPHA).any(axis=1).mean()


def families(values, measure):
    """Return the verdicts of every grid of values (grids, rivals, seeds), NaN being holes: (grids, pairs)."""
    nothing = np.zeros(values.shape[1:], np.bool_)
    left, right = list(PAIRS[0]), list(PAIRS[1])
    made = (verdicts.Grid(each, np.isnan(each), nothing) for each in values)
    return np.array([verdicts.judged(grid, left, right, measure)["verdict"] for grid in made])


def with_holes(rng, seeds, grids, share):
    """Return the share of families in which one is called better, where all diverge alike, in such a share of cells."""
    values, _ = losses(rng, grids, seeds)
    values[rng.random(values.shape) < share] = np.nan
    found = families(values, LOSS)
    return np.isin(found, (verdicts.BETTER, verdicts.WORSE)).any(axis=1).mean()


def false_equivalence(rng, seeds, grids):
    """Return the share of families that call two equivalent by accuracy of which one is a whole margin worse."""
    values, _ = accuracies(rng, grids, seeds, worse=1.0)
    found = families(values, ACCURACY)[:, PAIRS[1] == RIVALS - 1]
    return (found == verdicts.EQUIVALENT).any(axis=1).mean()


def report(grids=1000):
    """Return a row per measure and number of seeds."""
    rng = np.random.default_rng(0)
    rows = []
    for measure in MEASURES:
        for seeds in SEEDS:
            none, group = coverage(rng, measure, seeds, grids, 0.0)
            known, worse = coverage(rng, measure, seeds, grids, WORSE)
            single, family = false_positives(rng, measure, seeds, grids)
            rows.append(
                {
                    "measure": measure,
                    "seeds": seeds,
                    "covered: no difference": none,
                    "a known one": known,
                    "means of groups": (group + worse) / 2,
                    "false positives: a pair": single,
                    "a family after Holm": family,
                }
            )
    return rows


def report_of_families(grids=400):
    """Return a row per number of seeds: how often whole families are wrong."""
    rng = np.random.default_rng(0)
    return [
        {
            "seeds": seeds,
            **{f"false verdict, {share:.0%} diverge": with_holes(rng, seeds, grids, share) for share in HOLES},
            "false equivalence": false_equivalence(rng, seeds, grids),
        }
        for seeds in SEEDS
    ]


if __name__ == "__main__":
    print(tabulate(report(), headers="keys", floatfmt=".3f"))  # noqa: T201
    print(tabulate(report_of_families(), headers="keys", floatfmt=".3f"))  # noqa: T201
