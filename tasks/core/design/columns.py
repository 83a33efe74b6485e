"""The measures by which cells are compared, and the columns of every table.

Each measure is defined once, here. The record, the statistics and the report take its name, title, direction, step and
margin from here, and so does a study, whose checks and margins name measures.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Measure:
    """A number by which cells are compared.

    margin: the largest difference that is too small to matter, unless a study sets another one; None if the measure has
    no such number. scale: whether the spread over seeds is told as a difference, a standard deviation, or as a ratio, a
    geometric standard deviation. step: every value is a multiple of this; 0 if the measure is continuous. largest:
    every value lies between 0 and this.

    step_is_a_test_row: the measure is a share of the test rows, so its step is one row, and so is its margin.
    censored: the measure counts epochs until something happens, which may not happen within the epochs trained. Such a
    cell has no number, and it counts as having taken all epochs. per_batch: the cells of a batch share one value.
    repeatable: a cell that is trained again has the same value. A check of a study may name no other measure.
    """

    name: str
    title: str
    unit: str
    higher_is_better: bool
    margin: float | None
    scale: Literal["difference", "ratio"] = "difference"
    step: float = 0.0
    largest: float = np.inf
    step_is_a_test_row: bool = False
    censored: bool = False
    per_batch: bool = False
    repeatable: bool = True

    def scaled(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return values so that their differences are what `scale` says: of a ratio, the logarithms.

        >>> Measure("loss", "", "", False, None, scale="ratio").scaled(np.array([1.0, 0.5])).round(2).tolist()
        [0.0, -0.69]
        """
        return np.log(np.maximum(values, RESOLUTION)) if self.scale == "ratio" else values

    def unscaled(self, differences: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return differences of what `scaled` returns as `scale` says."""
        return np.exp(differences) if self.scale == "ratio" else differences


RESOLUTION = float(np.finfo(np.float32).eps)  # of a loss: 1.2e-7, below which a row's loss is rounded to zero
MEASURES = (
    Measure("test_accuracy", "test accuracy", "", True, None, largest=1.0, step_is_a_test_row=True),
    Measure("test_loss", "test loss", "nat", False, 0.02, scale="ratio"),
    Measure("brier_score", "Brier score", "", False, 0.01, largest=2.0),
    Measure("epochs_to_target", "epochs to target", "epochs", False, 1.0, step=1.0, censored=True),
    Measure("loss_area", "area under the test loss", "nat", False, 0.02, scale="ratio"),
    Measure("train_seconds", "train time", "s", False, None, per_batch=True, repeatable=False),
)
FINISHED = Measure("finished", "share of cells that finish", "", True, None)
"""Not a number of a cell: pairs are compared by it where some cells do not finish."""
MEASURES_BY_NAME: dict[object, Measure] = {measure.name: measure for measure in (*MEASURES, FINISHED)}
TITLES: dict[object, str] = {name: measure.title for name, measure in MEASURES_BY_NAME.items()}
RANKED = ("test_accuracy", "test_loss")
"""The measures that rankings and answers are about."""
RANKED_MEASURES = [measure for measure in MEASURES if measure.name in RANKED]

TRAIN = ("train_accuracy", "train_loss")
DIRECTIONS = ("forward", "backward")
"""Ways through a network. The comparison as people read it has a column for each."""
SLOPES = tuple(f"{way}_slope{source}" for way in DIRECTIONS for source in ("", "_theory"))
SIGNALS = (
    *SLOPES,
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
    CheckedName = Literal[(*(each.name for each in MEASURES if each.repeatable), *TRAIN, *SIGNALS)]
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
    *("better_share", "better_share_low", "better_share_high", "p", "p_equivalent", "margin", "verdict"),
    *("more_seeds_low", "more_seeds"),
)
"""Columns of results in the tables of pairs; the columns before them identify the pair."""
COMPARED = ("measure", "left", "right")
"""Columns that identify a pair of initializers, beside the backend and the factors."""
COMPARED_BY_INITIALIZER = ("measure", "initializer")
"""Columns that identify a pair of backends or of runs, beside the factors and, for runs, the backend."""
DEFAULTS = (*COMPARED_BY_INITIALIZER, "native", "shared", "difference", "low", "high", "n", "p")
"""The backends' difference under native weights and under shared ones; the columns of the factors come before these."""
SPREAD = ("measure", "level", "source", "scale", "sd", "low", "high", "least", "most", "seeds")
"""One row a measure, level, and source of the spread."""
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
"""Columns of a cell's file `layers.csv`, which has one row per layer."""
HISTORY = ("epoch", "train_loss", "test_loss", "train_accuracy", "test_accuracy")
"""First columns of a cell's file `history.csv`, which has one row per epoch; each layer's signals come after them."""
SIDE_BY_SIDE = (
    *(f"{name}_{run}" for run in ("first", "second") for name in ("status", *(each.name for each in MEASURES))),
    *("in", *(f"{measure.name}_difference" for measure in MEASURES), "equal"),
)
"""What two runs have of a cell; the columns before these say which cell it is."""
WORKING = ("rival", "value", "hole", "missed", "row", "hidden", "lucky", "run", "part")
"""Columns that a computation adds to one of these tables, most of them for a while."""
TABLES = (
    *(CELLS, COUNTS, JUDGED, COMPARED, COMPARED_BY_INITIALIZER, DEFAULTS, SPREAD, RANKS, CLAIMS),
    *(LAYERS, HISTORY, SIDE_BY_SIDE, DIRECTIONS, WORKING),
)
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
