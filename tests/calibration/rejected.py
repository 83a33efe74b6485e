"""What was tried and is not used: intervals that hold less often, and adjustments that see more than is there.

`python -m tests.calibration.rejected` prints the figures in `tasks/core/statistics/README.md`, in some minutes.
"""

import numpy as np
from scipy import stats
from tabulate import tabulate

from tasks.core.statistics import inference
from tasks.core.statistics.family import contrasts
from tasks.core.statistics.inference import ALPHA, Differences
from tests.calibration import families, table
from tests.calibration.claims import DATASETS, SEEDS, TRAINING, drawn, pairs

RUNS = 1000
FAMILIES = 200
LEAST_FOR_BCA = 8  # seeds
RESAMPLES = 499


def plainly_covered(rng, dataset, name, seeds, runs, *, ratios):
    """Return how often Student's interval of plain differences, or of ratios, contains the truth, (pairs,)."""
    values, (left, right) = table.values(dataset, "truth", name), pairs(TRAINING + 1)
    values = np.log(values) if ratios else values
    truth, found = (values[left] - values[right]).mean(1), []
    for own in drawn(rng, values, seeds, runs):
        of = Differences.of(own[left] - own[right], 0.0)
        found.append((of.low <= truth) & (truth <= of.high))
    return np.mean(found, 0)


def bca_covered(rng, dataset, seeds, runs):
    """Return how often intervals of mean losses, bias-corrected and accelerated, contain the mean, (rivals,).

    With fewer than 8 seeds the intervals are Student's.
    """
    values = table.values(dataset, "truth", "test_loss")[:TRAINING]
    found = []
    for own in drawn(rng, values, seeds, runs):
        if seeds < LEAST_FOR_BCA:
            of = Differences.of(own, 0.0)
        else:
            of = stats.bootstrap((own,), np.mean, axis=1, n_resamples=999, method="BCa", rng=0).confidence_interval
        found.append((of.low <= values.mean(1)) & (values.mean(1) <= of.high))
    return np.mean(found, 0)


def of_others(runs):
    """Yield a row per dataset and number of seeds: how often intervals hold that are not used."""
    for dataset in DATASETS:
        for seeds in SEEDS:
            rng = np.random.default_rng(seeds)
            plain = plainly_covered(rng, dataset, "test_loss", seeds, runs, ratios=False)
            brier = plainly_covered(rng, dataset, "brier_score", seeds, runs, ratios=True)
            row = {"dataset": dataset, "seeds": seeds, "plain differences of losses": plain.mean()}
            row |= {"worst pair": plain.min(), "ratios of Brier scores": brier.mean()}
            yield {**row, "means of losses by BCa": bca_covered(rng, dataset, seeds, runs // 4).mean()}


def step_down(rng, own, of, *, flips):
    """Return p-values of all pairs of a family (rivals, seeds), by Westfall and Young's step-down maximum of t.

    Under the null hypothesis that is resampled, rivals are permuted within each seed, or all differences of a seed
    change their sign.
    """
    left, right = families.PAIRS
    shape = (RESAMPLES, *own.shape)
    if flips:
        drawn = contrasts(own[left], own[right], of) * rng.choice([-1.0, 1.0], (RESAMPLES, 1, own.shape[1]))
    else:
        permuted = rng.permuted(np.broadcast_to(own, shape), axis=1)
        drawn = contrasts(permuted[:, left], permuted[:, right], of)
    seen, null = _t(contrasts(own[left], own[right], of), of.step), _t(drawn, of.step)
    order = np.argsort(seen)
    largest = np.maximum.accumulate(null[:, order], axis=1)  # of the pairs that are not yet rejected
    p = (1 + (largest >= seen[order] - inference.ROUNDING).sum(0)) / (RESAMPLES + 1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[::-1])[::-1]
    return adjusted


def _t(difference, step):
    n = difference.shape[-1]
    return np.abs(difference.mean(-1)) * np.sqrt(n) / np.maximum(difference.std(-1, ddof=1), step / np.sqrt(n) + 1e-12)


def of_step_downs(count):
    """Yield a row per dataset and number of seeds: in which share of families alike rivals are told apart by loss."""
    for dataset in families.DATASETS:
        for seeds in families.SEEDS[1:]:
            row = {"dataset": dataset, "seeds": seeds}
            for kind in ("null", "partial"):
                cells, alike = families.alike(dataset, kind, "test_loss")
                of = families.measure(dataset, "test_loss", cells)
                for name, flips in (("permuted", False), ("flipped", True)):
                    rng = np.random.default_rng(seeds)
                    every = families.drawn(rng, cells, seeds, count)
                    wrong = [step_down(rng, own, of, flips=flips)[alike].min() < ALPHA for own in every]
                    row[f"{kind}, {name}"] = np.mean(wrong)
            yield row


if __name__ == "__main__":
    for rows in (of_others(RUNS), of_step_downs(FAMILIES)):
        print(tabulate(list(rows), headers="keys", floatfmt=".3f"))  # noqa: T201
