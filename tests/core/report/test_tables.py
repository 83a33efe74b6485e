import subprocess
import sys

import numpy as np

from tasks.core.design.study import Study
from tasks.core.report import tables
from tasks.core.statistics import table
from tasks.core.statistics.notes import notes
from tests.shared.samples import cells


def test_misses_are_not_dropped():
    """Two misses of three make the median a miss, where dropping them would make it 3."""
    frame = cells()
    frame.loc[[1, 2], "epochs_to_target"] = np.nan
    shown = tables.shown(table.compare(frame)).set_index(["backend", "initializer"])
    assert shown.loc[("pytorch", "zeros"), "epochs to target"] == "never (2 missed)"
    assert shown.loc[("keras", "zeros"), "epochs to target"] == "4"


def test_signals_are_factors_a_layer():
    """Slopes are shown as the factor from layer to layer, theory's in brackets where there is one."""
    row = tables.shown(table.compare(cells())).iloc[0]
    assert (row["forward"], row["backward"]) == ("×0.5 (×0.5)", "×0.25")
    frame = cells().assign(forward_slope=np.nan, backward_slope=np.nan)
    assert not {"forward", "backward"} & set(tables.shown(table.compare(frame)))


def test_verdicts_are_counted():
    """The most frequent verdict of a group stands with its count, or alone if it is everyone's."""
    frame = cells()
    frame.loc[0, "health"] = "vanishing"
    shown = tables.shown(table.compare(frame)).set_index(["backend", "initializer"])["health"]
    assert shown["pytorch", "zeros"] == "healthy 2/3"
    assert shown["keras", "zeros"] == "healthy"


def test_copied_initializers_are_marked():
    """What a backend does not build itself is marked, and a note says what the mark means."""
    frame = cells().replace({"initializer": {"zeros": "lsuv"}})
    shown = tables.shown(table.compare(frame))["initializer"].tolist()
    assert shown == ["he_normal", "he_normal", "lsuv †", "lsuv †"]
    told = notes(Study(initializers=("lsuv", "he_normal")), frame)
    assert any("copied into both backends: lsuv." in note for note in told)


def test_texts_need_no_matplotlib():
    """A table or a text is made without loading matplotlib, which takes as long as making it."""
    code = "import sys, tasks.core.report.page; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
