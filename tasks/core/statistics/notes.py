"""Notes: what a reader has to know to read the comparison."""

from collections.abc import Iterator

import pandas as pd

from tasks.core.design.columns import SLOPES
from tasks.core.design.initializers import AS_BUILT, named
from tasks.core.design.settings import Network
from tasks.core.design.study import Study

COPIED = "†"  # marks an initializer that is drawn in NumPy and copied into both backends
TELLING = 0.01  # a factor of variances is told if it differs from 1 by more
REASONS = 3  # of failures that are told; cells.csv has all


def copied_law(label: str) -> bool:
    """Tell whether NumPy draws for an initializer, and both backends copy; the author's own draw is no copy."""
    entry = named(label)
    return not entry.law.native and entry.name != AS_BUILT.name


def notes(study: Study, cells: pd.DataFrame) -> list[str]:
    """Return the notes on a study's comparison, the gravest first."""
    return [*_holes(cells), *_initializers(study), *_factors(cells), *_columns(study, cells)]


def _holes(cells: pd.DataFrame) -> Iterator[str]:
    left_out = cells["status"].value_counts().drop("finished", errors="ignore")
    if len(left_out):
        counts = " and ".join(f"{count} {status}" for status, count in left_out.items())
        yield f"Means and intervals leave out {counts} cells."
    reasons = cells.loc[cells["status"] == "failed", "reason"].value_counts()
    yield from (f"{count} failed with: {reason}" for reason, count in reasons.head(REASONS).items())


def _initializers(study: Study) -> Iterator[str]:
    if copied := [name for name in study.initializers if copied_law(name)]:
        yield f"{COPIED} Drawn once in NumPy and copied into both backends: {', '.join(copied)}."
    if isinstance(study.network, Network) and study.network.bias == "zeros" and "pytorch_default" in study.initializers:
        yield "pytorch_default is here PyTorch's default for kernels alone: network.bias starts biases at zero."


def _factors(cells: pd.DataFrame) -> Iterator[str]:
    """Yield by what factor native weights differ from their law, where they do."""
    known = cells[(cells["native_factor"] - 1).abs() > TELLING] if "native_factor" in cells else cells[:0]
    for (backend, label), rows in known.groupby(["backend", "initializer"], sort=False):
        yield (
            f"{backend}, native {label}: in some layer weights have ×{rows['native_factor'].iloc[0]:.2g} the variance "
            "of their law, because the framework takes other fans than the operation has; layers.csv has all factors."
        )


def _columns(study: Study, cells: pd.DataFrame) -> Iterator[str]:
    rows = sorted(cells["test_rows"].dropna().astype(int).unique())
    steps = ", ".join(f"{1 / each:.2g}" for each in rows) or "unknown size"
    moves = (
        f"Test accuracy moves in steps of {steps}: one of {', '.join(map(str, rows))} test samples. Brackets are the "
        "95 % interval of the mean over seeds."
    )
    yield (
        "R² is 1 less the share of the test targets' variance that is left. Losses are in units of the train targets' "
        "variance. Brackets are the 95 % interval of the mean over seeds."
        if study.regression
        else moves
    )
    if cells[list(SLOPES)].notna().any(axis=None):
        yield (
            "forward: the factor by which the variance of pre-activations changes from one hidden layer to the next, "
            "before training. backward: the same of the gradient in the pre-activations, from one hidden layer to the "
            "one before it. In brackets: what theory expects."
        )
    yield (
        f"Epochs to target: the median epoch after which test accuracy first was {study.target:g} or more. A cell that "
        "missed the target counts as later than any epoch. ms/cell: a cell's share of its batch's training time."
    )
