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

    scale: how two cells are compared, by the difference of their values or by their ratio. A ratio suits a measure
    whose spread grows with its size, as that of a loss does. margin: the largest difference that is too small to
    matter, unless a study sets another one; of a ratio the share by which one side may be larger than the other one;
    None if the measure has no such number. step: every value is a multiple of this; 0 if the measure is continuous.
    least, largest: every value lies between these. margin_error: the standard error of a margin that cells decide.

    step_is_a_test_row: the measure is a share of the test rows, so its step is one row. Its margin is a share of the
    errors, see `statistics/measures.py`. of_classes: real targets have no such number.
    censored: the measure counts epochs until something happens, which may not happen within the epochs trained. Such a
    cell has no number, and it counts as having taken all epochs. per_batch: the cells of a batch share one value.
    repeatable: a cell that is trained again has the same value. A check of a study may name no other measure.
    """

    name: str
    title: str
    unit: str
    higher_is_better: bool
    margin: float | None
    margin_error: float = 0.0
    scale: Literal["difference", "ratio"] = "difference"
    step: float = 0.0
    least: float = 0.0
    largest: float = np.inf
    step_is_a_test_row: bool = False
    of_classes: bool = False
    censored: bool = False
    per_batch: bool = False
    repeatable: bool = True

    @property
    def centre(self) -> str:
        """The column of the comparison that orders initializers: the mean or, of a ratio, the geometric mean."""
        return f"{self.name}_{'geometric_mean' if self.scale == 'ratio' else 'mean'}"

    @property
    def centre_title(self) -> str:
        """What the column `centre` holds, in words: `mean test accuracy`, `geometric mean test loss`."""
        return f"{'geometric mean' if self.scale == 'ratio' else 'mean'} {self.title}"

    def scaled(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return values whose differences are compared: the values themselves or, of a ratio, their logarithms.

        A loss below RESOLUTION, such as a loss of exactly 0, counts as RESOLUTION, because float32 does not tell how
        far below it the loss is. So two such losses are equal. NaN stays NaN.

        >>> Measure("loss", "", "", False, None, scale="ratio").scaled(np.array([1.0, 0.5, 0.0])).round(2).tolist()
        [0.0, -0.69, -15.94]
        """
        return np.log(np.maximum(values, RESOLUTION)) if self.scale == "ratio" else values

    def unscaled(self, differences: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return differences of what `scaled` returns as `scale` says: of a ratio, exp of them."""
        return np.exp(differences) if self.scale == "ratio" else differences

    def scaled_margin(self, margins: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Return the largest differences of scaled values that are within margins: of a ratio, ln(1 + margin).

        So a margin of 0.1 allows a loss to be 10 % higher than the other one, or 9 % lower.

        >>> Measure("loss", "", "", False, None, scale="ratio").scaled_margin(0.1).round(3).item()
        0.095
        """
        return np.log1p(margins) if self.scale == "ratio" else np.asarray(margins)


RESOLUTION = float(np.finfo(np.float32).eps)  # of a loss: 1.2e-7, below which a row's loss is rounded to zero
MEASURES = (
    Measure("test_accuracy", "test accuracy", "", True, None, largest=1.0, step_is_a_test_row=True),
    Measure("test_loss", "test loss", "nat", False, 0.1, scale="ratio"),
    Measure("brier_score", "Brier score", "", False, 0.01, largest=2.0, of_classes=True),
    Measure("epochs_to_target", "epochs to target", "epochs", False, 1.0, step=1.0, censored=True),
    Measure("loss_area", "area under the test loss", "nat", False, 0.1, scale="ratio"),
    Measure("train_seconds", "train time", "s", False, None, per_batch=True, repeatable=False),
)
FINISHED = Measure("finished", "share of cells that finish", "", True, None)
"""Not a number of a cell: pairs are compared by it where some cells do not finish."""
MEASURES_BY_NAME: dict[object, Measure] = {measure.name: measure for measure in (*MEASURES, FINISHED)}
TITLES: dict[object, str] = {name: measure.title for name, measure in MEASURES_BY_NAME.items()}
RANKED = ("test_accuracy", "test_loss")
"""The primary measures. Rankings and answers are about them, and a run's claims are controlled over them together. What
is said by any other measure is exploratory: a hint that needs a run of its own."""
RANKED_MEASURES = [measure for measure in MEASURES if measure.name in RANKED]

TRAIN = ("train_accuracy", "train_loss")
VALIDATION = ("validation_accuracy", "validation_loss")
"""Columns of cells that have validation rows."""
DIRECTIONS = ("forward", "backward")
"""Ways through a network. The comparison as people read it has a column for each."""
SLOPES = tuple(f"{way}_slope{source}" for way in DIRECTIONS for source in ("", "_theory"))
SIGNALS = (
    *SLOPES,
    *("jacobian_largest", "jacobian_smallest", "jacobian_mean_square", "jacobian_condition"),
    *("first_loss", "first_loss_ratio", "largest_class_share", "gradient_quotient"),
    *("dead_at_start", "dead_at_end", "saturated_at_start", "saturated_at_end"),
    "native_factor",
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
    *VALIDATION,
    *SIGNALS,
    *("horizon", "test_rows", "digest", "run_id", "reason"),
)
"""Columns of the table of cells, which has one row per cell; the study's factors come right after `backend`. The
horizon is the number of epochs trained; epochs_to_target is empty where a cell missed the target within the horizon.
The digest is one of all in BITS; two cells with one digest were trained alike in every bit. A failed cell has a reason
and no measures. The columns VALIDATION are left out where no cell has validation rows."""
COUNTS = ("finished", "diverged", "failed", "health", "health_cells", "epochs_to_target_median", "target_missed")
"""Columns of the comparison, which has one row per group of cells; its other columns are `<measure>_<statistic>`."""
JUDGED = (
    *("role", "n", "left_out", "scale", "estimate", "low", "high", "sd", "difference", "effect_size"),
    *("better_share", "better_share_low", "better_share_high", "p", "p_equivalent", "margin", "verdict"),
    *("more_seeds_low", "more_seeds"),
)
"""Columns of results in the tables of pairs; the columns before them identify the pair."""
COMPARED = ("measure", "left", "right")
"""Columns that identify a pair of initializers, beside the backend and the factors."""
COMPARED_BY_INITIALIZER = ("measure", "initializer")
"""Columns that identify a pair of backends or of runs, beside the factors and, for runs, the backend."""
DEFAULTS = (*COMPARED_BY_INITIALIZER, "native", "shared", "scale", "estimate", "low", "high", "n", "p")
"""The backends' difference under native weights and under shared ones; the columns of the factors come before these."""
SPREAD = ("measure", "level", "source", "scale", "sd", "low", "high", "least", "most", "seeds")
"""One row a measure, level, and source of the spread."""
RANKS = ("backend", "ranking", "initializer", "mean_rank", "apart_from", "friedman_p", "blocks")
"""One row a ranking and initializer."""
BY_VALUE = ("value", "score", "score_sd", "finished", "failed", "cells", "picked", "edge")
"""Columns of what a tuned setting's values give; the columns before them identify the backend, levels, initializer."""
OVER_RATES = ("verdict", "holds", "rates", "reversed")
"""Columns that say at how many learning rates a pair's verdict holds; the columns before them identify the pair."""
CLAIMS = ("claim", "backend", "measured", "allowed", "cells", "result")
"""One row a claim and backend."""
START = (
    *("pre_activation_mean", "pre_activation_variance", "activation_mean", "activation_variance"),
    *("gradient_variance", "weight_gradient_norm", "units_alike"),
)
"""Signals at initialization. Each has one value for every layer; the last layer gives the logits."""
LAYERS = ("layer", *START, "theory_forward", "theory_backward", "theory_chi")
"""Columns of a cell's file `layers.csv`, which has one row per layer."""
OF_LAYERS = ("layer_name", "layer_kind", "fan_in", "fan_out", "native_factor")
"""What `layers.csv` says besides of a network of one's own."""
HISTORY = ("epoch", "train_loss", "test_loss", "train_accuracy", "test_accuracy")
"""First columns of a cell's file `history.csv`, which has one row per epoch; each layer's signals come after them."""
BITS = ("parameter", "start_bits", "gradient_bits", "end_bits")
"""Digests of a cell, one row per parameter: of its start weights, of the first gradient in it if it is a kernel, and of
its final weights."""
SIDE_BY_SIDE = (
    *(f"{name}_{run}" for run in ("first", "second") for name in ("status", *(each.name for each in MEASURES))),
    *("in", *(f"{measure.name}_difference" for measure in MEASURES), "equal"),
)
"""What two runs have of a cell; the columns before these say which cell it is."""
WORKING = ("rival", "row", "hidden", "lucky", "run", "part", "ran", "broke")
"""Columns that a computation adds to one of these tables, most of them for a while."""
TABLES = (
    *(CELLS, COUNTS, JUDGED, COMPARED, COMPARED_BY_INITIALIZER, DEFAULTS, SPREAD, RANKS, CLAIMS),
    *(BY_VALUE, OVER_RATES),
    *(LAYERS, OF_LAYERS, HISTORY, BITS, SIDE_BY_SIDE, DIRECTIONS, WORKING),
)
RESERVED = {name for table in TABLES for name in table}
"""All columns of all tables. A factor cannot have one of these names."""


def role(measure: str) -> str:
    """Return `primary` or `exploratory`, which a measure is in every study.

    >>> role("test_loss"), role("brier_score")
    ('primary', 'exploratory')
    """
    return "primary" if measure in RANKED else "exploratory"


def titled(measure: str) -> str:
    """Return the title of a measure, marked if the measure is exploratory.

    >>> titled("test_loss"), titled("brier_score")
    ('test loss', 'Brier score (exploratory)')
    """
    title = MEASURES_BY_NAME[measure].title
    return title if role(measure) == "primary" else f"{title} (exploratory)"


def reserved(name: str) -> bool:
    """Tell whether a table has, or may have, a column of this name, so that no factor can have it.

    >>> reserved("test_loss"), reserved("test_loss_mean"), reserved("status_first"), reserved("depth")
    (True, True, True, False)
    """
    measured = (*(each.name for each in MEASURES), *TRAIN, *VALIDATION, *SIGNALS, "status")
    return name in RESERVED or any(name.startswith(f"{measure}_") for measure in measured)


def cell_columns(factors: Iterable[str], *, validation: bool = False) -> tuple[str, ...]:
    """Return the columns of a study's table of cells.

    factors: the short names of the study's factors; validation: whether there are validation rows.

    >>> cell_columns(["depth"])[:4]
    ('study', 'backend', 'depth', 'initializer')
    """
    place = CELLS.index("backend") + 1
    found = (*CELLS[:place], *factors, *CELLS[place:])
    return found if validation else tuple(name for name in found if name not in VALIDATION)
