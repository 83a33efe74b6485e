import numpy as np
import pandas as pd
import pytest

from tasks.core.statistics.side_by_side import keyed
from tasks.core.watch import bits
from tasks.core.watch.bits import Recorded
from tests.shared import samples
from tests.shared.reports import findings

NAMES = ("first", "second")
CELL = ["backend", "initializer", "seed"]


def recorded(cells=None, **study):
    """Return a night of cells with two parameters each, and a history of two epochs after the start."""
    cells = samples.cells(samples.THREE, seeds=2) if cells is None else cells
    about = cells.drop(columns=[name for name in cells if name not in (*CELL, "activation")])
    digests = [about.assign(parameter=name, start_bits="1", gradient_bits="2", end_bits="3") for name in NAMES]
    epochs = [
        about.assign(epoch=at, test_loss=0.5, **{f"gradient_norm/layer_00{n}": 1.0 if at else np.nan for n in (1, 2)})
        for at in range(3)
    ]
    both = (pd.concat(each).sort_index(kind="stable").reset_index(drop=True) for each in (digests, epochs))
    found = findings(cells, seeds=2, **study)
    return Recorded(keyed(found.study, found.cells), *both)


def planted(night, table, column, initializer="zeros", seed=0, **where):
    """Return a night in which one cell of PyTorch has another value in some rows of a table."""
    rows = getattr(night, table).copy()
    chosen = (rows["backend"] == "pytorch") & (rows["initializer"] == initializer) & (rows["seed"] == seed)
    for name, value in where.items():
        chosen &= rows[name] == value
    assert chosen.any()
    rows.loc[chosen, column] = "other" if table == "bits" else -1.0
    return Recorded(night.cells, **{"bits": night.bits, "history": night.history, table: rows})


def test_a_quiet_night_is_equal():
    """Cells with the same digests and curves raise no flag, also where a signal is not a number."""
    found = bits.beside(recorded(), recorded())
    assert (found.equal, found.flags, len(found.cells)) == (True, (), 12)


STAGES = {
    "start": ([("bits", "start_bits", {"parameter": "second"})], "the start weights, second: the initializer changed"),
    "gradient": (
        [("bits", "gradient_bits", {"parameter": "first"})],
        "the first gradient, first: the arithmetic changed",
    ),
    "later": (
        [("bits", "end_bits", {}), ("history", "gradient_norm/layer_002", {"epoch": 2})],
        "epoch 2, layer 2: start weights and first gradients are equal, and differences add up in training",
    ),
    "at the end": (
        [("bits", "end_bits", {"parameter": "second"})],
        "the final weights, second: start weights and first gradients are equal, and differences add up in training",
    ),
    "scores": (
        [("history", "test_loss", {"epoch": 1})],
        "epoch 1, test loss: the weights are equal, and what is measured changed",
    ),
}


@pytest.mark.parametrize("stage", STAGES)
def test_the_first_stage_is_told(stage):
    """Of a cell that differs, the flag names the first stage, with the parameter, or the epoch and the layer."""
    plants, words = STAGES[stage]
    night = recorded()
    for table, column, where in plants:
        night = planted(night, table, column, **where)
    found = bits.beside(recorded(), night, "baseline")
    (flag,) = found.flags
    assert not found.equal
    assert (flag.level, flag.group, flag.against) == ("bits", "pytorch · zeros", "baseline")
    assert flag.words == f"1 of 2 cells are not bit-equal; the first difference is in {words}"


def test_a_group_tells_its_earliest_difference():
    """Start weights come before gradients, and these before epochs, whichever cell has them; groups have own flags."""
    night = planted(recorded(), "bits", "end_bits")
    night = planted(night, "bits", "gradient_bits", seed=1)
    night = planted(night, "bits", "start_bits", initializer="he_normal")
    one, other = bits.beside(recorded(), night).flags
    assert (one.group, other.group) == ("pytorch · he_normal", "pytorch · zeros")
    assert other.words.startswith("2 of 2 cells are not bit-equal; the first difference is in the first gradient")


def test_cells_are_paired_by_their_settings():
    """Cells are paired by key: the order of initializers, and a factor that one night lacks, do not matter."""
    levels = [samples.cells(("he_normal", "zeros"), seeds=2, activation=name) for name in ("relu", "tanh")]
    both = pd.concat(levels).sort_values("backend", ascending=False, kind="stable").reset_index(drop=True)
    first = recorded(both, initializers=("he_normal", "zeros"), factors={"network.activation": ("relu", "tanh")})
    lone = recorded(samples.cells(("zeros", "he_normal"), seeds=2), initializers=("zeros", "he_normal"))
    changed = planted(lone, "bits", "start_bits")
    assert len(bits.beside(first, changed).cells) == 8
    assert [flag.group for flag in bits.beside(first, changed).flags] == ["pytorch · zeros"]
    assert [flag.group for flag in bits.beside(changed, first).flags] == ["pytorch · activation relu · zeros"]


def test_what_has_no_digests_is_not_compared():
    """Cells that an earlier release recorded, and cells that failed, are neither equal nor different."""
    night, nothing = recorded(), pd.DataFrame()
    old = Recorded(night.cells, night.bits.iloc[:0], night.history)
    assert len(bits.beside(old, night).cells) == 0
    assert len(bits.beside(night, Recorded(night.cells, nothing, nothing)).cells) == 0
    some = Recorded(night.cells, night.bits[night.bits["seed"] == 1], night.history)
    assert len(bits.beside(some, planted(night, "bits", "start_bits")).cells) == 6
    assert bits.beside(some, planted(night, "bits", "start_bits")).equal
