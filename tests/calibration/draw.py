"""Train real cells whose truth is known; the README of this folder describes the sets.

`python -m tests.calibration.draw iris-null wine-truth` trains these sets and stores them among the committed cells;
without names it trains all. `python -m tests.calibration.draw --fresh` trains a twentieth of each set from seeds that
the committed cells do not have, stores nothing, and prints how far the means of both lie apart, in standard errors.
"""

import importlib
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import ceil

import numpy as np
from sklearn.model_selection import train_test_split

from flows.studies import load
from tasks.core.design.columns import MEASURES
from tasks.core.design.grid import Cell
from tasks.core.design.initializers import Backend
from tasks.core.design.settings import CellSettings
from tasks.core.design.study import Study
from tasks.core.training import datasets, seeds
from tasks.core.training.backend import Stack
from tasks.core.training.outcome import Curves, Predictions, epochs_to_target
from tasks.core.training.weights import fans, initial_weights, stacked
from tests.calibration import table

STREAM = 1_000_000  # rival k of a null set draws its weights from seed k · STREAM + the cell's seed
TOGETHER = 128  # cells of one program
FRESH = 0.05  # share of a set that a fresh draw trains
SEEDS = {"iris": 2000, "wine": 2000, "breast_cancer": 600, "digits": 400}
HOLES = {"iris": 500, "wine": 500, "breast_cancer": 100, "digits": 100}
SMALL = ("iris", "wine")
INITIALIZERS = ("glorot_uniform", "he_normal", "orthogonal", "pytorch_default")
SAMPLED = {"digits": 150, "breast_cancer": 150}  # rows of a sample, which is as large as Iris
SAMPLES = 40
DRAWN = 8  # draws of one stream while the others are held
SOMETIMES = {"iris": 0.265, "wine": 0.26, "breast_cancer": 0.23, "digits": 0.27}
"""The standard deviation of a normal law under which about half of the cells diverge."""
MEASURED = [measure.name for measure in MEASURES if measure.repeatable]


@dataclass(frozen=True)
class Draw:
    """A cell to train: its initializer, the seed of each of its streams, and the sample of rows that it has, if any."""

    initializer: str
    split: int = 0
    order: int = 0
    weights: int = 0
    sample: int | None = None

    def plus(self, seed: int) -> "Draw":
        return replace(self, split=self.split + seed, order=self.order + seed, weights=self.weights + seed)


@dataclass(frozen=True)
class Set:
    """Cells to train: those of a study in one backend, for some rivals and seeds from `first` on.

    rivals: by name, the draw of each rival; its seeds are to be added to the seed of the column.
    """

    study: Study
    count: int
    rivals: Mapping[str, Draw]
    first: int = 0
    backend: Backend = "pytorch"

    @property
    def seeds(self) -> range:
        return range(self.first, self.first + self.count)

    def draws(self) -> list[Draw]:
        """Return the draws, seed after seed, of each seed all rivals."""
        return [draw.plus(seed) for seed in self.seeds for draw in self.rivals.values()]


def sets() -> dict[str, Set]:
    """Return the committed sets by name."""
    null = {f"{name}-null": Set(Study(dataset=name), count, streams()) for name, count in SEEDS.items()}
    truth = {f"{name}-truth": Set(Study(dataset=name), count, initializers(Study())) for name, count in SEEDS.items()}
    keras = {f"{name}-keras": Set(Study(dataset=name), 1000, initializers(Study()), backend="keras") for name in SMALL}
    holes = {f"{name}-holes": Set(remedies(name), n, initializers(remedies(name))) for name, n in HOLES.items()}
    spread = {f"{name}-spread": Set(spread_over(name), 200, sources()) for name in SMALL}
    of_samples = {f"{name}-samples": Set(Study(dataset=name), 30, samples()) for name in SAMPLED}
    return null | truth | keras | holes | spread | of_samples


def streams() -> dict[str, Draw]:
    """Return eight rivals that are truly alike: in every seed each has weights of its own, by one law."""
    return {f"stream {k}": Draw("he_normal", weights=k * STREAM) for k in range(8)}


def initializers(study: Study) -> dict[str, Draw]:
    return {name: Draw(name) for name in study.initializers}


def sources() -> dict[str, Draw]:
    """Return one initializer's draws that differ from the first one, number 0, in one stream alone."""
    found = {}
    for initializer in INITIALIZERS:
        for source in ("split", "order", "weights"):
            for k in range(DRAWN):
                found[f"{initializer} {source} {k}"] = Draw(initializer, **{source: k * STREAM})
    return found


def samples() -> dict[str, Draw]:
    """Return some initializers on samples of a dataset's rows, sample after sample."""
    return {f"{name} sample {k}": Draw(name, sample=k) for k in range(SAMPLES) for name in INITIALIZERS}


def spread_over(dataset) -> Study:
    return load("spread").model_copy(update={"dataset": dataset, "factors": {}, "checks": ()})


def remedies(dataset) -> Study:
    """Return a study with the network and recipe of `remedies` under ReLU: some initializers diverge."""
    normals = ("random_normal(std=0.01)", f"random_normal(std={SOMETIMES[dataset]})", "random_normal(std=0.5)")
    study = load("remedies").at((("network.activation", "relu"), ("remedy", "none")))
    return study.model_copy(
        update={"dataset": dataset, "initializers": ("he_normal", "glorot_uniform", "zeros", *normals)}
    )


def trained(plan: Set) -> table.Cells:
    """Train the cells of a set."""
    framework = importlib.import_module(f"tasks.backends.{plan.backend}")
    framework.setup(threads=1)
    settings = plan.study.settings(plan.backend, ())
    draws = plan.draws()
    parts = [draws[at : at + TOGETHER] for at in range(0, len(draws), TOGETHER)]
    rows = np.concatenate([_together(framework, settings, part, plan.study.target) for part in parts])
    status, *measured = rows.reshape(plan.count, len(plan.rivals), -1).transpose(2, 1, 0)
    test_rows = len(_fold(settings, draws[0].split, draws[0].sample).y_test)
    values = {name: array.astype(np.float32) for name, array in zip(MEASURED, measured, strict=True)}
    return table.Cells(
        tuple(plan.rivals), np.array(plan.seeds), status.astype(np.uint8), values, plan.study.recipe.epochs, test_rows
    )


@cache
def _fold(settings: CellSettings, seed: int, sample: int | None = None) -> datasets.Fold:
    return datasets.divide(_sampled(settings, sample), settings.split, seed)


@cache
def _sampled(settings: CellSettings, sample: int | None) -> datasets.Dataset:
    """Return a dataset, or the rows of one sample of it, with classes as frequent as in the whole."""
    whole = datasets.load(settings.dataset)
    if sample is None:
        return whole
    rows, _ = train_test_split(
        np.arange(len(whole.y)), train_size=SAMPLED[whole.name], stratify=whole.y, random_state=sample
    )
    return replace(whole, x=whole.x[rows], y=whole.y[rows])


@cache
def _order(settings: CellSettings, rows: int, seed: int) -> np.ndarray:
    order_seed = seeds.chosen(settings.recipe.order_seed, seed)
    return datasets.visits(rows, settings.recipe.epochs, order_seed, shuffle=settings.recipe.shuffle)


def _together(framework, settings: CellSettings, draws: Sequence[Draw], target: float) -> np.ndarray:
    """Train cells in one program; return a row for each: its status, then its measures."""
    dataset = datasets.load(settings.dataset)
    sizes = fans(settings.network, len(dataset.features), dataset.classes)
    folds = [_fold(settings, draw.split, draw.sample) for draw in draws]
    order = np.stack([_order(settings, len(folds[0].y_train), draw.order) for draw in draws], axis=1)
    cells = [Cell(settings.backend, draw.initializer, draw.weights) for draw in draws]
    weights = [
        initial_weights(framework, settings, cell, sizes, fold.x_train) for cell, fold in zip(cells, folds, strict=True)
    ]
    program = framework.program(settings.network, settings.recipe, sizes, len(draws))
    program.start(Stack.of(folds), stacked(weights), [settings.recipe.learning_rate] * len(draws))
    scores = np.concatenate([program.measure().scores, program.run(order).scores])
    logits = program.logits()
    return np.array(
        [
            _measures(Curves(*scores[:, at].T), Predictions(fold.test_rows, fold.y_test, logits[at]), target)
            for at, fold in enumerate(folds)
        ]
    )


def _measures(curves: Curves, predictions: Predictions, target: float) -> list[float]:
    status = "finished" if curves.diverged_at is None else "diverged"
    reached = epochs_to_target(curves.test_accuracy, target)
    measured = {
        "test_accuracy": curves.test_accuracy[-1],
        "test_loss": curves.test_loss[-1],
        "brier_score": predictions.brier_score,
        "epochs_to_target": np.nan if reached is None else reached,
        "loss_area": curves.loss_area,
    }
    return [table.STATUS.index(status), *(measured[name] for name in MEASURED)]


def distances(committed: table.Cells, fresh: table.Cells) -> np.ndarray:
    """Return how far the means of a measure lie apart, in standard errors of the distance: (measures, rivals).

    Means are over finished cells; NaN where there are fewer than three, or all are equal.
    """
    means, errors = zip(*(_means(cells) for cells in (committed, fresh)), strict=True)
    error = np.sqrt(errors[0] + errors[1])
    return np.abs(means[0] - means[1]) / np.where(error > 0, error, np.nan)


def _means(cells: table.Cells) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of each measure and rival and its squared standard error, both (measures, rivals)."""
    found = np.stack([cells.values[name] for name in MEASURED]).astype(np.float64)
    found = np.where(cells.diverged, np.nan, found)
    n = np.isfinite(found).sum(-1)
    total = np.where(n > 2, np.nansum(found, -1), np.nan)
    mean = total / np.maximum(n, 1)
    return mean, np.nansum(np.square(found - mean[..., None]), -1) / np.maximum((n - 1) * n, 1)


def store(name: str) -> str:
    """Train a committed set and store it; return a line that says so."""
    cells = trained(sets()[name])
    table.write(table.FOLDER / f"{name}.npz", cells)
    return f"{cells.status.size} cells"


def compare(name: str) -> str:
    """Train a part of a set from seeds of its own; return how far its means lie from those of the committed set."""
    plan = sets()[name]
    cells = trained(replace(plan, first=plan.count, count=ceil(FRESH * plan.count)))
    committed = table.read(table.FOLDER / f"{name}.npz")
    found = distances(committed, cells)
    found = found[np.isfinite(found)]
    diverged = f"{cells.diverged.mean():.2f} diverged (committed: {committed.diverged.mean():.2f})"
    return f"means {np.median(found):.2f} standard errors apart (median), {found.max():.1f} at most; {diverged}"


def main() -> None:
    fresh = "--fresh" in sys.argv
    for name in [given for given in sys.argv[1:] if given != "--fresh"] or sets():
        begun = time.perf_counter()
        line = compare(name) if fresh else store(name)
        print(f"{name}: {line}, {time.perf_counter() - begun:.0f} s", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
