"""How much time it takes to compare cells and to write the page, in seconds of the plainest table of the same cells.

`python -m tests.benchmarks.comparison`, in the environment; the plainest table is a mean and an SD a group.
"""

import time

from tabulate import tabulate

from tasks.core.report.drawing import pictures as draw
from tasks.core.report.page import html
from tests.shared.reports import ENVIRONMENT, NONE, findings
from tests.shared.samples import noisy

SEEDS = (10, 60, 600)  # 160, 960 and 9,600 cells
INITIALIZERS = tuple(f"random_normal(std=0.{at})" for at in range(1, 9))


def seconds(work):
    begun = time.perf_counter()
    return work(), time.perf_counter() - begun


def measured(seeds):
    cells = noisy(seeds, INITIALIZERS)
    measures = ["test_accuracy", "test_loss", "brier_score", "epochs_to_target", "loss_area", "train_seconds"]
    plain = min(
        seconds(lambda: cells.groupby(["backend", "initializer"])[measures].agg(["mean", "std"]))[1] for _ in range(20)
    )
    found, comparing = seconds(lambda: findings(cells, initializers=INITIALIZERS, seeds=seeds))
    pictures, drawing = seconds(lambda: draw(found, NONE, NONE))
    page, writing = seconds(lambda: html(found, pictures, ENVIRONMENT, "", str))
    return {
        "cells": len(cells),
        "compare": comparing / plain,
        "draw": drawing / plain,
        "write": writing / plain,
        "page, MB": len(page.encode()) / 1e6,
    }


if __name__ == "__main__":
    measured(2)  # loads and fills caches
    print(tabulate([measured(seeds) for seeds in SEEDS], headers="keys", floatfmt=".3g"))  # noqa: T201
