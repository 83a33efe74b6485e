"""How often what the statistics say holds, on real cells whose truth is known.

`python -m tests.calibration.claims` prints the tables of tasks/core/statistics/README.md, which takes about two minutes
of computing; a number behind it is that of runs for each row, 250 unless given. A run is drawn as a benchmark
would have had it: so many seeds, in each of which all rivals have the same split and order.
"""

import sys

import numpy as np
import pandas as pd
from tabulate import tabulate

from tasks.core.design.columns import MEASURES_BY_NAME, RANKED
from tasks.core.statistics import inference
from tasks.core.statistics.family import contrasts
from tasks.core.statistics.inference import ALPHA, Differences
from tasks.core.statistics.verdicts import BETTER, EQUIVALENT, WORSE
from tests.calibration import table
from tests.calibration.draw import INITIALIZERS, SAMPLED, SAMPLES
from tests.calibration.draw import SEEDS as DATASETS
from tests.calibration.families import measure as known
from tests.calibration.families import of_all

SEEDS = (5, 10, 20, 30)
MEASURES = (*RANKED, "loss_area", "brier_score")
BACKENDS = 2
FAMILIES = BACKENDS * len(RANKED)
TRAINING = 7  # rivals of a truth set that train; the last one is zeros


def drawn(rng, values, seeds, runs):
    """Yield the values (rivals, seeds) of so many runs, drawn from all seeds without replacement."""
    for _ in range(runs):
        yield values[:, rng.choice(values.shape[1], seeds, replace=False)]


def pairs(rivals):
    left, right = np.triu_indices(rivals, 1)
    return list(left), list(right)


def covered(rng, dataset, name, seeds, runs):
    """Return the share of intervals that contain the truth, of each pair, (pairs,)."""
    values = table.values(dataset, "truth", name)
    measure, (left, right) = known(dataset, name, values), pairs(len(values))
    truth = contrasts(values[left], values[right], measure).mean(1)
    inside = []
    for own in drawn(rng, values, seeds, runs):
        found = Differences.of(contrasts(own[left], own[right], measure), measure.step)
        inside.append((found.low <= truth + 1e-9) & (truth - 1e-9 <= found.high))
    return np.mean(inside, 0)


def covered_means(rng, dataset, name, seeds, runs):
    """Return the share of intervals of means of groups that contain the true mean, of rivals that train, (rivals,)."""
    values = table.values(dataset, "truth", name)[:TRAINING]
    mean, step = np.tile(values.mean(1), runs), known(dataset, name, values).step
    groups = np.concatenate(list(drawn(rng, values, seeds, runs)))
    low, high = inference.intervals(groups, steps=step, seed=inference.BOOTSTRAP_SEED)
    return ((low <= mean) & (mean <= high)).reshape(runs, -1).mean(0)


def verdicts(own, measure):
    """Return the verdicts of all pairs of values (rivals, seeds)."""
    found = of_all(own, measure, controlled=FAMILIES)
    return found.verdicts(found.p(), found.p_equivalent())


def decided(rng, dataset, name, seeds, runs):
    """Return the shares of pairs of rivals that train which are called better or worse, and equivalent."""
    values = table.values(dataset, "truth", name)[:TRAINING]
    found = np.array([verdicts(own, known(dataset, name, own)) for own in drawn(rng, values, seeds, runs)])
    return np.isin(found, (BETTER, WORSE)).mean(), (found == EQUIVALENT).mean()


def false_claims(rng, dataset, seeds, runs):
    """Return the shares of families by each primary measure, and of runs, in which one of equals is called better.

    A run has two backends, whose seeds are drawn independently, and both primary measures. families: as if each were
    controlled by itself.
    """
    single = {name: [] for name in RANKED}
    whole = []
    values = {name: table.values(dataset, "null", name) for name in RANKED}
    for _ in range(runs):
        at = [rng.choice(values[RANKED[0]].shape[1], seeds, replace=False) for _ in range(BACKENDS)]
        wrong = []
        for name in RANKED:
            for backend in at:
                own = values[name][:, backend]
                of = known(dataset, name, own)
                p = [of_all(own, of, controlled=number).p().min() for number in (1, FAMILIES)]
                single[name].append(p[0] < ALPHA)
                wrong.append(p[1] < ALPHA)
        whole.append(any(wrong))
    return {name: np.mean(each) for name, each in single.items()}, np.mean(whole)


def false_with_holes(rng, dataset, seeds, share, runs):
    """Return the share of families in which one of equals is called better by loss, where such a share diverges."""
    values = table.values(dataset, "null", "test_loss")
    wrong = [
        of_all(np.where(rng.random(own.shape) < share, np.nan, own), MEASURES_BY_NAME["test_loss"]).p().min() < ALPHA
        for own in drawn(rng, values, seeds, runs)
    ]
    return np.mean(wrong)


def shifted(rng, own, measure, ahead=0.0):
    """Return alike values, the last rival's made a margin worse: losses by a factor, accuracies by whole rows.

    ahead: by how much the last rival is better than the others before that, on the measure's scale.
    """
    worse, by = own.copy(), measure.scaled_margin(measure.margin) + ahead
    if measure.scale == "ratio":
        worse[-1] *= np.exp(by)
    elif measure.step:
        rows = by / measure.step
        worse[-1] -= measure.step * (np.floor(rows) + (rng.random(own.shape[1]) < rows % 1))
    else:
        worse[-1] += by
    return worse


def false_equivalence(rng, dataset, name, seeds, runs):
    """Return how often a difference as large as the margin is called equivalent: of single pairs, and of families.

    single: pairs of rivals that train, each with its true difference as the margin, before Holm, (pairs,). families:
    where all are alike but one, which over all seeds is a margin worse than the mean of the others.
    """
    values = table.values(dataset, "truth", name)[:TRAINING]
    measure, (left, right) = known(dataset, name, values), pairs(TRAINING)
    truth = np.abs(contrasts(values[left], values[right], measure).mean(1))
    single = [
        Differences.of(contrasts(own[left], own[right], measure), measure.step).p_beyond(truth) < ALPHA
        for own in drawn(rng, values, seeds, runs)
    ]
    null = table.values(dataset, "null", name)
    last = np.array(pairs(len(null))[1]) == len(null) - 1
    true, mean = known(dataset, name, null), measure.scaled(null).mean(1)
    ahead = (mean[-1] - mean[:-1].mean()) * (1 if measure.higher_is_better else -1)
    alike = [
        (verdicts(own, known(dataset, name, own))[last] == EQUIVALENT).any()
        for own in (shifted(rng, each, true, ahead) for each in drawn(rng, null, seeds, runs))
    ]
    return np.mean(single, 0), np.mean(alike)


def report(runs, seeds=SEEDS, datasets=tuple(DATASETS)):
    """Return the rows of the table, one per measure, number of seeds and dataset."""
    rng, rows = np.random.default_rng(0), []
    for dataset in datasets:
        for number in seeds:
            families, whole = false_claims(rng, dataset, number, runs)
            for name in MEASURES:
                of_pairs = covered(rng, dataset, name, number, runs)
                of_groups = covered_means(rng, dataset, name, number, runs)
                better, equivalent = decided(rng, dataset, name, number, runs)
                single, alike = false_equivalence(rng, dataset, name, number, runs)
                rows.append(
                    {
                        "measure": name,
                        "seeds": number,
                        "dataset": dataset,
                        "pairs covered": of_pairs.mean(),
                        "worst pair": of_pairs.min(),
                        "groups covered": of_groups.mean(),
                        "better or worse": better,
                        "equivalent": equivalent,
                        "false better: a family": families.get(name, np.nan),
                        "a run": whole,
                        "falsely equivalent: a pair": single.mean(),
                        "worst such pair": single.max(),
                        "equivalent: a family": alike,
                    }
                )
    return pd.DataFrame(rows)


def report_of_holes(runs, seeds=SEEDS, shares=(0.1, 0.3)):
    """Return a row per number of seeds: how often a family with holes holds a false verdict, over all datasets."""
    rng = np.random.default_rng(1)
    return [
        {
            "seeds": number,
            **{
                f"{share:.0%} diverge": np.mean([false_with_holes(rng, each, number, share, runs) for each in DATASETS])
                for share in shares
            },
        }
        for number in seeds
    ]


def from_samples(dataset, name):
    """Return how much new data would teach beside new seeds, by a measure on samples of a dataset's rows.

    The variance of contrasts over the seeds of one sample, divided by the variance of their true means over samples, is
    the number of seeds at which both contribute the same to the error of what is said of the population. It is infinite
    where the means vary no more than seeds make them. Variances are pooled over pairs. covered: by number of seeds, the
    share of 95 % intervals from one sample that contain the mean over all samples.
    """
    cells = table.values(dataset, "samples", name)
    by_sample = cells.reshape(SAMPLES, len(INITIALIZERS), -1).swapaxes(0, 1)  # (initializers, samples, seeds)
    measure, (left, right) = MEASURES_BY_NAME[name], pairs(len(INITIALIZERS))
    found = contrasts(by_sample[left], by_sample[right], measure)
    within = found.var(2, ddof=1).mean()
    between = found.mean(2).var(1, ddof=1).mean() - within / found.shape[2]
    truth = found.mean((1, 2))
    worth = within / between if between > 0 else np.inf
    row = {"dataset": dataset, "measure": name, "seeds worth a sample": worth}
    for seeds in (5, 10, 30):
        own = [Differences.of(each[:, :seeds], 0.0) for each in found]
        inside = [(each.low <= mean) & (mean <= each.high) for each, mean in zip(own, truth, strict=True)]
        row |= {f"covered, {seeds} seeds": np.mean(inside), f"worst pair, {seeds}": np.mean(inside, 1).min()}
    return row


if __name__ == "__main__":
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 250
    found = report(runs)
    means = found.drop(columns="dataset").groupby(["measure", "seeds"], sort=False).mean().reset_index()
    samples = [from_samples(dataset, name) for dataset in SAMPLED for name in RANKED]
    for rows in (found.to_dict("list"), means.to_dict("list"), report_of_holes(runs), samples):
        print(tabulate(rows, headers="keys", floatfmt=".3f"))  # noqa: T201
