"""The tables that a cell's run keeps as CSV files."""

import pandas as pd

from tasks.core.design.columns import HISTORY, LAYERS, OF_LAYERS
from tasks.core.training.health import Signals, named
from tasks.core.training.outcome import Described, Predictions, Trained


def history(trained: Trained) -> pd.DataFrame:
    """Return one row per epoch, epoch 0 being before training: the columns `columns.HISTORY` and each layer's signals.

    Where there are validation rows, their loss and accuracy come between these.
    A layer's signals have the names that `health.named` gives them. Signals of an update are empty in epoch 0.
    """
    table = pd.DataFrame(dict(trained.curves.items())).rename_axis(HISTORY[0])
    for name, values in trained.signals.curves().items():
        columns = [named(name, layer) for layer in range(1, values.shape[1] + 1)]
        table = table.join(pd.DataFrame(values, table.index[-len(values) :], columns))
    return table.reset_index()


def layers(signals: Signals, described: Described | None = None) -> pd.DataFrame:
    """Return one row per layer, with the columns `columns.LAYERS`: signals before training, and what theory expects.

    Of a network of one's own, whose layers are described, there are the columns `columns.OF_LAYERS`, too.

    The last layer gives the logits. Of the gradient theory expects something in hidden layers alone.
    """
    index = pd.RangeIndex(1, len(signals.theory.forward) + 1, name="layer")
    hidden = index[: signals.hidden]
    table = pd.DataFrame(signals.start, index).assign(
        theory_forward=signals.theory.forward,
        theory_backward=pd.Series(signals.theory.backward, hidden),
        theory_chi=pd.Series(signals.theory.chi, hidden),
    )
    if described:
        told = (described.names, described.kinds, described.fan_in, described.fan_out, described.native_factor)
        for name, values in zip(OF_LAYERS, told, strict=True):
            table.insert(len(table.columns), name, pd.Series(values, table.index))
    return table.reset_index()[[*LAYERS, *(OF_LAYERS if described else ())]]


def predictions(found: Predictions) -> pd.DataFrame:
    """Return one row per test row: its number in the dataset, its class and its logits, or its targets and outputs."""
    if found.labels.ndim > 1:  # real targets
        pairs = {"label": found.labels, "output": found.logits}
        columns = {f"{name}_{at}": column for name, array in pairs.items() for at, column in enumerate(array.T)}
        return pd.DataFrame({"row": found.rows, **columns})
    logits = {f"logit_{at}": column for at, column in enumerate(found.logits.T)}
    return pd.DataFrame({"row": found.rows, "label": found.labels, **logits})
