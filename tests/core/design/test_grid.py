import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.design import grid
from tasks.core.design.grid import Cell
from tasks.core.design.initializers import BACKENDS, OWN
from tasks.core.design.settings import CsvFile, Network, Recipe, RecipeChanges, Split
from tasks.core.design.study import Study
from tests.shared.keys import CELL, HERE, key, keys_of

axes = st.fixed_dictionaries(
    {
        "backends": st.permutations(BACKENDS),
        "initializers": st.lists(st.sampled_from(sorted(entry.name for entry in OWN)), min_size=1, unique=True),
        "seeds": st.lists(st.integers(0, 50), min_size=1, max_size=9, unique=True),
    }
)

FACTORS = {
    "network.activation": ["relu", "tanh"],
    "remedy": {"none": {}, "clipping": {"recipe.clip_norm": 1.0, "recipe.learning_rate": 0.02}},
}


def cut(study):
    """Return the grid in the batches that tasks take."""
    most = grid.largest_batch(study, len(grid.cells(study)))
    return [part for batch in grid.batches(study, HERE) for part in batch.cut(most)]


@given(axes)
def test_key_ignores_axes(axes):
    """A cell's key does not depend on the order or extent of the axes it was asked under."""
    study = Study(**axes)
    for cell in grid.cells(study):
        assert key(study, cell, HERE) == key(Study(), cell, HERE)


@given(axes)
def test_keys_are_distinct(axes):
    """No two cells of a grid share a key."""
    study = Study(**axes)
    assert len({key(study, cell, HERE) for cell in grid.cells(study)}) == len(grid.cells(study))


@pytest.mark.parametrize(
    "change",
    [
        {"split": Split(test_fraction=0.3)},
        {"split": Split(seed=42)},
        {"split": Split(validation_fraction=0.25)},
        {"network": Network(hidden=(8,))},
        {"network": Network(width=64, depth=3)},
        {"network": Network(activation="tanh")},
        {"network": Network(normalization="batch")},
        {"network": Network(residual=True)},
        {"recipe": Recipe(weight_decay=0.1)},
        {"recipe": Recipe(clip_norm=1)},
        {"recipe": Recipe(clip_value=1)},
        {"recipe": Recipe(optimizer="adamw")},
        {"recipe": Recipe(epochs=21)},
        {"overrides": {"keras": RecipeChanges(learning_rate=0.1)}},
        {"weights": "shared"},
    ],
)
def test_key_covers_settings(change):
    """A setting that decides a cell's outcome changes its key."""
    assert key(Study(**change)) != key(Study())


TUNED = {"split": {"validation_fraction": 0.25}, "initializers": ("he_normal", "zeros"), "seeds": 2}
TUNE = {"recipe.learning_rate": (0.001, 0.1), "seeds": 3}


def test_key_without_validation_is_as_it_was():
    """No validation rows are no part of a key, so that cells recorded before there were any are found again."""
    assert "validation_fraction" not in Study().settings("keras", ()).identity["split"]
    assert Study(**TUNED).settings("keras", ()).identity["split"]["validation_fraction"] == 0.25


def test_a_tuned_cell_is_a_cell_of_its_pick():
    """A cell has the key that it has in a study of the value that its group has picked; batches are of one pick."""
    study = Study(**TUNED, tune=TUNE)
    picks = {
        cell.group: ("recipe.learning_rate", 0.1 if cell.initializer == "zeros" else 0.001)
        for cell in grid.cells(study)
    }
    batches = grid.batches(study, HERE, picks)
    keys = {cell: key for batch in batches for cell, key in batch.keys.items()}
    assert len(batches) == 4
    for initializer, rate in (("zeros", 0.1), ("he_normal", 0.001)):
        plain = keys_of(Study(**TUNED, recipe=Recipe(learning_rate=rate)))
        for cell in (cell for cell in plain if cell.initializer == initializer):
            assert keys[cell] == plain[cell]
            assert grid.settings_of(study, cell, picks).recipe.learning_rate == rate


def test_tuning_cells_are_cells_of_every_value():
    """Initializers pick in a grid of every value, on seeds that the study does not have, with the study's controls."""
    study = Study(**TUNED, tune=TUNE)
    tuning = study.tuning()
    assert len(grid.cells(tuning)) == tuning.size == 2 * 2 * 2 * 3
    assert {cell.seed for cell in grid.cells(tuning)} == {1_000_000, 1_000_001, 1_000_002}
    assert {cell.levels for cell in grid.cells(tuning)} == {(("recipe.learning_rate", rate),) for rate in (0.001, 0.1)}
    assert (tuning.tune, tuning.controls) == (None, study.controls)


@pytest.mark.parametrize("field", ["frameworks", "device", "rounding", "release", "data"])
def test_key_covers_platform(field):
    """Another framework version, device, way to round, release or dataset is another cell."""
    from dataclasses import replace

    others = {
        "frameworks": {"pytorch": "torch 1", "keras": "keras 2"},
        "data": {"iris": "other"},
        "rounding": {"threads": "2"},
    }
    other = replace(HERE, **{field: others.get(field, "other")})
    assert key(Study(), CELL, other) != key(Study())


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"target": 0.5},
        {"max_tasks": 1},
        {"overrides": {"pytorch": RecipeChanges(learning_rate=0.1)}},
        {"overrides": {"keras": RecipeChanges(learning_rate=0.01)}},
        {"overrides": {"pytorch": RecipeChanges(optimizer="sgd")}},
        {"recipe": Recipe(momentum=0.5)},
        {"controls": None},
        {"dataset": CsvFile(path="a.csv", target="b")},  # the platform has the data's checksum
        {"checks": [{"claim": "it works", "measure": "test_accuracy", "at_least": 0.5}]},
    ],
)
def test_key_ignores_what_decides_nothing(change):
    """Names, targets, the other backend's recipe and a change that changes nothing leave a cell reusable."""
    assert key(Study(**change)) == key(Study())


@given(axes, st.integers(1, 12))
def test_batches_partition_the_cells(axes, max_tasks):
    """Every cell is in exactly one batch, of one backend, and there are about max_tasks of them."""
    study = Study(**axes, max_tasks=max_tasks)
    batches = cut(study)
    assert sorted(map(str, (cell for batch in batches for cell in batch.cells))) == sorted(map(str, grid.cells(study)))
    assert all({cell.backend for cell in batch.cells} == {batch.backend} for batch in batches)
    assert len(batches) <= max_tasks + 1


def test_factors_are_axes():
    """Every combination of levels is crossed with the grid, and sets the settings that it names."""
    study = Study(factors=FACTORS, seeds=1, initializers=("zeros",), backends=("keras",))
    assert [str(cell) for cell in grid.cells(study)] == [
        "keras · activation relu · remedy none · zeros · seed 0",
        "keras · activation relu · remedy clipping · zeros · seed 0",
        "keras · activation tanh · remedy none · zeros · seed 0",
        "keras · activation tanh · remedy clipping · zeros · seed 0",
    ]
    last = study.at(grid.cells(study)[-1].levels)
    assert (last.network.activation, last.recipe.clip_norm, last.recipe.learning_rate) == ("tanh", 1.0, 0.02)
    first = study.at(grid.cells(study)[0].levels)
    assert (first.network, first.recipe, first.factors) == (Network(), Recipe(), {})


def test_a_level_is_the_cell_of_its_settings():
    """A cell has one key, whether its settings came by a factor or were the study's own."""
    study = Study(factors=FACTORS)
    keys = keys_of(study)
    assert len(set(keys.values())) == len(grid.cells(study)) == 640
    levels = study.levels()[2]
    plain = Study(network=Network(activation="tanh"))
    assert keys[Cell("keras", "he_normal", 3, levels)] == key(plain)
    assert key(study, Cell("keras", "he_normal", 3, levels), HERE) == key(plain)


def test_batches_keep_levels_apart():
    """Cells of a batch share every setting but initializer and seed."""
    study = Study(factors=FACTORS, max_tasks=8)
    batches = cut(study)
    assert len(batches) == 8
    assert all(len({cell.levels for cell in batch.cells}) == 1 for batch in batches)


def test_no_cells_no_batches():
    """A study of which nothing is missing has nothing to train."""
    everything = {*keys_of(Study()).values()}
    assert [part for batch in grid.batches(Study(), HERE) for part in batch.without(everything).cut(1)] == []


def test_one_cell_a_task_up_to_the_limit():
    """Up to max_tasks cells each cell is a task of its own."""
    assert {len(batch.cells) for batch in cut(Study())} == {1}
