"""What initializers pick, on what data, what is told of it; and at how many learning rates a verdict holds."""

import numpy as np
import pandas as pd
import pytest

from tasks.core.design import grid
from tasks.core.design.columns import MEASURES, cell_columns
from tasks.core.design.settings import short
from tasks.core.design.study import Study
from tasks.core.statistics import tuning
from tests.shared.tuned import LOSSES, STUDY, tuning_cells


def picked(study, cells):
    """Return what PyTorch picks for each initializer, under a study without factors."""
    return {
        initializer: value
        for (backend, _, initializer), (_, value) in tuning.picks(study, cells).items()
        if backend == "pytorch"
    }


def test_each_initializer_picks_its_best():
    """The value with the lowest mean validation loss is picked, or with the highest accuracy, each group by itself."""
    assert picked(STUDY, tuning_cells()) == {"he_normal": 0.01, "zeros": 0.1}
    by_accuracy = STUDY.model_copy(update={"tune": STUDY.tune.model_copy(update={"by": "validation_accuracy"})})
    cells = tuning_cells().assign(validation_accuracy=lambda rows: 1 - rows["learning_rate"])
    assert picked(by_accuracy, cells) == {"he_normal": 0.001, "zeros": 0.001}


def test_means_over_seeds_pick():
    """The mean over the tuning seeds decides, not a single lucky seed."""
    cells = tuning_cells()
    lucky = (cells["initializer"] == "he_normal") & (cells["learning_rate"] == 0.1) & (cells["seed"] == 1_000_001)
    cells.loc[lucky, "validation_loss"] = 0.01
    assert picked(STUDY, cells)["he_normal"] == 0.01


def test_test_and_train_rows_do_not_pick():
    """Whatever the train and the test rows say, and in whatever order cells stand, the pick is the same."""
    cells = tuning_cells()
    rng = np.random.default_rng(0)
    judged = [measure.name for measure in MEASURES] + ["train_loss", "train_accuracy"]
    changed = cells.assign(**{name: rng.random(len(cells)) for name in judged})
    assert tuning.picks(STUDY, changed) == tuning.picks(STUDY, cells)
    pd.testing.assert_frame_equal(tuning.tuned(STUDY, changed), tuning.tuned(STUDY, cells))
    shuffled = cells.sample(frac=1, random_state=0)
    assert tuning.picks(STUDY, shuffled) == tuning.picks(STUDY, cells)


@pytest.mark.parametrize("status", ["diverged", "failed"])
def test_values_that_lose_cells_are_picked_last(status):
    """A value at which a cell is lost comes after all others; if every value loses as many, the means decide again."""
    cells = tuning_cells()
    best = (cells["initializer"] == "he_normal") & (cells["learning_rate"] == 0.01)
    first = cells["seed"] == 1_000_000
    cells.loc[best & first, ["status", "validation_loss"]] = [status, np.nan]
    rows = tuning.tuned(STUDY, cells)
    assert picked(STUDY, cells)["he_normal"] == 0.001
    at = rows[(rows["initializer"] == "he_normal") & (rows["value"] == 0.01)].iloc[0]
    assert (at["finished"], at["failed"], at["cells"]) == (1, int(status == "failed"), 2)
    cells.loc[cells["seed"] == 1_000_000, "status"] = status
    assert picked(STUDY, cells)["he_normal"] == 0.01
    assert picked(STUDY, cells.assign(status=status)) == {"he_normal": 0.001, "zeros": 0.001}


def test_every_level_picks_for_itself():
    """With factors, each level has picks of its own, by the very groups and values that the grid has."""
    study = Study(
        **{**STUDY.model_dump(), "tune": {"recipe.batch_size": (8, 16)}, "factors": {"recipe.clip_norm": (None, 2)}}
    )
    rows = [(cell, dict(cell.levels)) for cell in grid.cells(study.tuning())]
    losses = [levels["recipe.batch_size"] * (1 if levels["recipe.clip_norm"] == "none" else -1) for _, levels in rows]
    table = pd.DataFrame(
        [
            {
                **{short(factor): level for factor, level in cell.levels},
                "backend": cell.backend,
                "initializer": cell.initializer,
                "seed": cell.seed,
                "status": "finished",
                "validation_loss": loss,
            }
            for (cell, _), loss in zip(rows, losses, strict=True)
        ],
        columns=cell_columns(["clip_norm", "batch_size"], validation=True),
    )
    found = tuning.picks(study, table)
    assert set(found) == {cell.group for cell in grid.cells(study)}
    values = {levels: value for (_, levels, _), (_, value) in found.items()}
    assert values == {(("recipe.clip_norm", "none"),): 8, (("recipe.clip_norm", 2),): 16}
    assert {type(value) for value in values.values()} == {int}
    settings = {row.recipe.batch_size for row, _ in grid.resolved(study, found)}
    assert settings == {8, 16}


def test_edges_are_told():
    """A pick that is the smallest or the largest value of the grid is marked and named; another one is not."""
    rows = tuning.tuned(STUDY, tuning_cells())
    assert {*rows.loc[rows["edge"], "initializer"]} == {"zeros"}
    _, edges = tuning.sentences(STUDY, rows, pd.DataFrame())
    assert edges == (
        "At the edge of the grid, so that a wider one may serve them better: pytorch zeros (0.1), keras zeros (0.1)."
    )
    inside = LOSSES | {"zeros": LOSSES["he_normal"]}
    assert len([*tuning.sentences(STUDY, tuning.tuned(STUDY, tuning_cells(inside)), pd.DataFrame())]) == 1


def test_uncertain_picks_are_told():
    """Where another value scores the same within the standard error of the pick's mean, 0.05 here, that is told."""
    near = LOSSES | {"he_normal": {0.001: 0.24, 0.01: 0.2, 0.1: 0.9}}
    _, unsure, _ = tuning.sentences(STUDY, tuning.tuned(STUDY, tuning_cells(near)), pd.DataFrame())
    assert unsure.startswith("2 of 4 picks are uncertain: another value scores the same within one standard error.")
    far = LOSSES | {"he_normal": {0.001: 0.26, 0.01: 0.2, 0.1: 0.9}}
    assert len([*tuning.sentences(STUDY, tuning.tuned(STUDY, tuning_cells(far)), pd.DataFrame())]) == 2


def test_the_budget_is_told():
    """How many cells tuning took, on how many seeds and over which values is told; cells that are lost as well."""
    cells = tuning_cells()
    words = (
        "Each at its best: every initializer picked its own learning rate, of 3 values from 0.001 to 0.1, by the mean "
        "validation loss over 2 seeds that the comparison does not use. Tuning took 24 cells, the comparison 12."
    )
    assert next(tuning.sentences(STUDY, tuning.tuned(STUDY, cells), pd.DataFrame())) == words
    cells.loc[:2, "status"] = "diverged"
    lost = next(tuning.sentences(STUDY, tuning.tuned(STUDY, cells), pd.DataFrame()))
    assert lost == f"{words} 3 of them did not finish; a value at which cells are lost is picked last."


def test_backends_that_pick_differently_are_told():
    """Where the two backends have picked different values, the notes say under which initializers."""
    cells = tuning_cells()
    assert len([*tuning.notes(STUDY, tuning.tuned(STUDY, cells))]) == 1
    turned = (cells["backend"] == "keras") & (cells["initializer"] == "zeros")
    cells.loc[turned, "validation_loss"] = cells.loc[turned, "learning_rate"]
    _, differing = tuning.notes(STUDY, tuning.tuned(STUDY, cells))
    assert differing == "The backends picked different values under zeros."


@pytest.mark.parametrize(
    ("study", "words"),
    [
        (Study(), "at one recipe"),
        (Study(factors={"dataset": ("iris", "wine")}), "at one recipe"),
        (Study(factors={"remedy": {"a": {}, "b": {"recipe.epochs": 2}}}), "at each of 2 recipes"),
        (Study(factors={"recipe.learning_rate": (0.1, 0.2, 0.3)}), "at each of 3 learning rates"),
        (STUDY, "each at its best learning rate"),
    ],
)
def test_standpoint(study, words):
    """A study compares at one recipe, at each of several, or each initializer at its best."""
    assert tuning.standpoint(study) == words
    (note, *_) = tuning.notes(study, tuning.tuned(study, tuning_cells()))
    assert (words in note) != bool(study.tune)


def test_verdicts_over_learning_rates():
    """Each pair has the verdict of most rates, at how many it holds, and whether it is reversed at others."""
    verdicts = {
        ("a", "b"): ("better", "better", "worse"),
        ("a", "c"): ("equivalent", "equivalent", "equivalent"),
        ("b", "c"): ("undecided", "undecided", "undecided"),
    }
    pairs = pd.DataFrame(
        [
            {"backend": "keras", "learning_rate": rate, "measure": "test_loss", "left": left, "right": right}
            | {"verdict": verdict}
            for (left, right), each in verdicts.items()
            for rate, verdict in zip((0.1, 0.2, 0.3), each, strict=True)
        ]
    )
    study = Study(factors={"recipe.learning_rate": (0.1, 0.2, 0.3)})
    rows = tuning.over_rates(study, pairs)
    told = rows[["left", "right", "verdict", "holds", "rates", "reversed"]].to_numpy().tolist()
    assert told == [
        ["a", "b", "better", 2, 3, True],
        ["a", "c", "equivalent", 3, 3, False],
        ["b", "c", "undecided", 0, 3, False],
    ]
    assert [*tuning.sentences(study, pd.DataFrame(), rows)] == [
        "keras, by test loss: 2 of 3 pairs have a verdict at some learning rate, and 1 of these at all 3. Reversed "
        "between rates: a against b."
    ]
    assert tuning.over_rates(Study(), pairs).empty
