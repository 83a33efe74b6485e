from io import StringIO

import numpy as np
import pandas as pd

from tasks.core.design.columns import BITS, HISTORY, LAYERS
from tasks.core.training import files
from tasks.core.training.bits import Bits
from tasks.core.training.outcome import Curves, Predictions, Trained
from tests.shared import samples


def trained(epochs=2):
    curve = np.arange(epochs + 1, dtype=np.float32)
    logits = np.array([[0.5, 1.5], [2.5, 3.5]], np.float32)
    predictions = Predictions(np.array([7, 3]), np.array([1, 0]), logits)
    return Trained(Curves(curve, curve, curve, curve), predictions, {}, samples.signals(epochs=epochs), 0.1)


def test_layers():
    """A layer is a row; theory has no gradient in the logits, which are the last layer."""
    table = pd.DataFrame(files.layers(samples.signals(forward=(1.0, 0.5, 0.25))))
    assert tuple(table) == LAYERS
    assert table["layer"].tolist() == [1, 2, 3]
    assert np.allclose(table["pre_activation_variance"], [1.0, 0.5, 0.25])
    assert table["theory_forward"].tolist() == [1.0, 0.5, 0.1]
    assert table["theory_backward"].tolist()[:2] == [0.5, 1.0]
    assert table[["theory_backward", "theory_chi"]].isna().sum().tolist() == [1, 1]


def test_history():
    """An epoch is a row, from epoch 0 on; the signals of updates begin after the first epoch."""
    table = pd.DataFrame(files.history(trained()))
    assert tuple(table)[: len(HISTORY)] == HISTORY
    assert table["epoch"].tolist() == [0, 1, 2]
    assert table["train_loss"].tolist() == [0.0, 1.0, 2.0]
    assert table["gradient_norm/layer_003"].isna().tolist() == [True, False, False]
    assert table["dead/layer_002"].tolist() == [0.0, 0.0, 0.0]
    assert "dead/layer_003" not in table  # the logits are no units


def test_predictions():
    """A test row is a row, with its logits in the order of the classes."""
    table = pd.DataFrame(files.predictions(trained().predictions))
    assert table.to_dict("list") == {"row": [7, 3], "label": [1, 0], "logit_0": [0.5, 2.5], "logit_1": [1.5, 3.5]}


def test_bits():
    """A parameter is a row, in the order of the model; one that is no kernel has no gradient."""
    table = pd.DataFrame(files.bits(Bits({"w": "a", "b": "b"}, {"w": "c"}, {"w": "d", "b": "e"})))
    assert tuple(table) == BITS
    assert table.to_numpy().tolist() == [["w", "a", "c", "d"], ["b", "b", "", "e"]]


def test_csv_is_what_pandas_writes():
    """A file is as pandas writes it, and reads back as the very numbers, infinite and missing ones among them."""
    table = {
        "row": np.arange(4),
        "loss": np.array([0.1, np.nan, np.inf, -1e-30], np.float32),
        "signal": np.array([1 / 3, np.nan, -np.inf, 1e300]),
    }
    frame = pd.DataFrame(table)
    assert files.csv(table) == frame.to_csv(index=False)
    read = pd.read_csv(StringIO(files.csv(table)))
    np.testing.assert_array_equal(read["signal"], table["signal"])
    np.testing.assert_array_equal(read["loss"].astype(np.float32), table["loss"])
