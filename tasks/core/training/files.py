"""The tables that a cell keeps as files: columns by name, as long as each other.

Columns are plain arrays, because a data frame for each of ten thousand cells takes longer than to train them.
"""

import numpy as np
from numpy.typing import NDArray

from tasks.core.design.columns import BITS, HISTORY, LAYERS, OF_LAYERS
from tasks.core.training.bits import Bits
from tasks.core.training.health import Signals, named
from tasks.core.training.outcome import Described, Predictions, Trained

Columns = dict[str, NDArray[np.generic]]


def history(trained: Trained) -> Columns:
    """Return one row per epoch, epoch 0 being before training: the columns `columns.HISTORY` and each layer's signals.

    Where there are validation rows, their loss and accuracy come between these.
    A layer's signals have the names that `health.named` gives them. Signals of an update are NaN in epoch 0.
    """
    rows = len(trained.curves.train_loss)
    signals = {
        named(name, layer): _last(column, rows)
        for name, values in trained.signals.curves().items()
        for layer, column in enumerate(values.T, 1)
    }
    return {HISTORY[0]: np.arange(rows), **dict(trained.curves.items()), **signals}


def layers(signals: Signals, described: Described | None = None) -> Columns:
    """Return one row per layer, with the columns `columns.LAYERS`: signals before training, and what theory expects.

    Of a network of one's own, whose layers are described, there are the columns `columns.OF_LAYERS`, too.

    The last layer gives the logits; there, the columns `theory_backward` and `theory_chi` are empty.
    """
    rows = len(signals.theory.forward)
    table: Columns = {
        "layer": np.arange(1, rows + 1),
        **signals.start,
        "theory_forward": np.asarray(signals.theory.forward),
        "theory_backward": _first(signals.theory.backward, rows),
        "theory_chi": _first(signals.theory.chi, rows),
    }
    found = {name: table[name] for name in LAYERS}
    if described:
        told = (described.names, described.kinds, described.fan_in, described.fan_out, described.native_factor)
        found |= {name: np.asarray(values) for name, values in zip(OF_LAYERS, told, strict=True)}
    return found


def bits(found: Bits) -> Columns:
    """Return one row per parameter, with the columns `columns.BITS`."""
    names = list(found.start)
    stages = ([each.get(name, "") for name in names] for each in (found.start, found.gradient, found.end))
    return {name: np.array(values, np.str_) for name, values in zip(BITS, (names, *stages), strict=True)}


def _last(values: NDArray[np.float64], rows: int) -> NDArray[np.float64]:
    """Return the values as the last of so many rows; the rows before them are NaN."""
    return np.concatenate([np.full(rows - len(values), np.nan), values])


def _first(values: NDArray[np.float64], rows: int) -> NDArray[np.float64]:
    """Return the values as the first of so many rows; the rows after them are NaN."""
    return np.concatenate([np.asarray(values, np.float64), np.full(rows - len(values), np.nan)])


def predictions(found: Predictions) -> Columns:
    """Return one row per test row: its number in the dataset, its class and its logits, or its targets and outputs."""
    if found.labels.ndim > 1:  # real targets
        pairs = {"label": found.labels, "output": found.logits}
        return {
            "row": found.rows,
            **{f"{name}_{at}": column for name, array in pairs.items() for at, column in enumerate(array.T)},
        }
    logits = {f"logit_{at}": column for at, column in enumerate(found.logits.T)}
    return {"row": found.rows, "label": found.labels, **logits}


def csv(table: Columns) -> str:
    r"""Return a table as CSV, with as many digits as tell each number from all others of its type; NaN is empty.

    >>> csv({"epoch": np.arange(2), "loss": np.array([0.1, np.nan], np.float32)})
    'epoch,loss\n0,0.1\n1,\n'
    """
    columns = [[_text(value) for value in column] for column in map(_plain, table.values())]
    return "\n".join([",".join(table), *map(",".join, zip(*columns, strict=True)), ""])


def _text(value: object) -> str:
    return str(value) if value == value else ""  # NaN differs from itself


def _plain(column: NDArray[np.generic]) -> list[object]:
    """Return the values as Python's own numbers, or float32 as its own, whose digits are fewer."""
    return list(column) if column.dtype == np.float32 else column.tolist()
