"""The measures by which cells are compared, and the columns of every table.

Each measure is defined once, here. The record, the statistics and the report take its name, title, direction, step and
margin from here, and so does a study, whose checks and margins name measures.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np


@dataclass(frozen=True)
class Measure:
    """A number by which cells are compared.

    margin: the largest difference that is too small to matter, unless a study sets another one; None if the measure has
    no such number. step: every value is a multiple of this; 0 if the measure is continuous. largest: every value lies
    between 0 and this. checked: whether a check of a study may name the measure.
    """

    name: str
    title: str
    unit: str
    higher_is_better: bool
    margin: float | None
    step: float = 0.0
    largest: float = np.inf
    checked: bool = True


MEASURES = (
    Measure("test_accuracy", "test accuracy", "", True, None, largest=1.0),  # its step and margin are one test row
    Measure("test_loss", "test loss", "nat", False, 0.02),
    Measure("brier_score", "Brier score", "", False, 0.01, largest=2.0),
    Measure("epochs_to_target", "epochs to target", "epochs", False, 1.0, step=1.0),
    Measure("loss_area", "area under the test loss", "nat", False, 0.02),
    Measure("train_seconds", "train time", "s", False, None, checked=False),
)
TITLES: dict[object, str] = {measure.name: measure.title for measure in MEASURES}
RANKED = ("test_accuracy", "test_loss")
"""The measures that rankings and headlines are about."""
RANKED_MEASURES = [measure for measure in MEASURES if measure.name in RANKED]

TRAIN = ("train_accuracy", "train_loss")
SIGNALS = (
    *("forward_slope", "forward_slope_theory", "backward_slope", "backward_slope_theory"),
    *("jacobian_largest", "jacobian_smallest", "jacobian_mean_square", "jacobian_condition"),
    *("first_loss", "first_loss_ratio", "largest_class_share", "gradient_quotient"),
    *("dead_at_start", "dead_at_end", "saturated_at_start", "saturated_at_end"),
)
"""Numbers that describe a cell's signals. A check may name these and those of TRAIN, but no verdict compares them."""

Health = Literal["healthy", "vanishing", "exploding", "dead", "symmetric"]
"""What a cell's signals say about the cell, in a word; `training/health.py` defines each word."""

if TYPE_CHECKING:
    CheckedName = str
    MeasureName = str
else:  # a type checker cannot read the alternatives from a table; pydantic can
    CheckedName = Literal[(*(each.name for each in MEASURES if each.checked), *TRAIN, *SIGNALS)]
    MeasureName = Literal[tuple(each.name for each in MEASURES)]

CELLS = (
    *("study", "backend", "initializer", "seed", "status", "health"),
    *(each.name for each in MEASURES),
    *TRAIN,
    *SIGNALS,
    *("horizon", "test_rows", "run_id", "reason"),
)
"""Columns of the table of cells, which has one row per cell; the study's factors come right after `backend`. The
horizon is the number of epochs trained; epochs_to_target is empty where a cell missed the target within the horizon. A
failed cell has a reason and no measures."""
COUNTS = ("finished", "diverged", "failed", "health", "health_cells", "epochs_to_target_median", "target_missed")
"""Columns of the comparison, which has one row per group of cells; its other columns are `<measure>_<statistic>`."""
JUDGED = (
    *("n", "left_out", "difference", "low", "high", "sd", "effect_size"),
    *("better_share", "better_share_low", "better_share_high", "p", "p_equivalent", "margin", "verdict", "more_seeds"),
)
"""Columns of the tables of pairs that say what was found; the columns before them say what is compared."""
COMPARED = ("measure", "left", "right")
"""What tells one judged pair from another; a pair of backends or runs has an initializer instead of left and right."""
DEFAULTS = ("native", "shared")
"""The backends' difference under native weights and under shared ones."""
SPREAD = ("measure", "level", "source", "sd", "low", "high", "seeds")
"""One row a measure, level of the streams that vary, and source of the spread."""
RANKS = ("backend", "ranking", "initializer", "mean_rank", "critical_difference", "friedman_p", "blocks")
"""One row a ranking and initializer."""
CLAIMS = ("claim", "backend", "measured", "allowed", "cells", "result")
"""One row a claim and backend."""
START = (
    *("pre_activation_mean", "pre_activation_variance", "activation_mean", "activation_variance"),
    *("gradient_variance", "weight_gradient_norm", "units_alike"),
)
"""Signals at initialization. Each has one value for every layer; the last layer gives the logits."""
LAYERS = ("layer", *START, "theory_forward", "theory_backward", "theory_chi")
SIDE_BY_SIDE = ("in", "equal", "key", "run")
"""What two runs have beside `<column>_first` and `<column>_second`."""
WORKING = ("rival", "value", "hole", "missed", "row", "hidden", "lucky", "forward", "backward", "epoch", "part")
"""Columns that a computation adds to the table of cells for a while, and columns of the files of a cell."""
TABLES = (CELLS, COUNTS, JUDGED, COMPARED, DEFAULTS, SPREAD, RANKS, CLAIMS, LAYERS, SIDE_BY_SIDE, WORKING)
RESERVED = {name for table in TABLES for name in table}
"""All columns of all tables. A factor cannot have one of these names."""


def reserved(name: str) -> bool:
    """Tell whether a table has, or may have, a column of this name, so that no factor can have it.

    >>> reserved("test_loss"), reserved("test_loss_mean"), reserved("status_first"), reserved("depth")
    (True, True, True, False)
    """
    measured = (*(each.name for each in MEASURES), *TRAIN, *SIGNALS, "status")
    return name in RESERVED or any(name.startswith(f"{measure}_") for measure in measured)


def cell_columns(factors: Iterable[str]) -> tuple[str, ...]:
    """Return the columns of a study's table of cells; `factors` are the short names of the study's factors.

    >>> cell_columns(["depth"])[:4]
    ('study', 'backend', 'depth', 'initializer')
    """
    place = CELLS.index("backend") + 1
    return (*CELLS[:place], *factors, *CELLS[place:])
