import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.core.design.initializers import BACKENDS, OWN
from tasks.core.design.study import Cell, CsvFile, Network, Platform, Recipe, RecipeChanges, Split, Study

HERE = Platform(
    {"pytorch": "torch 1", "keras": "keras 1"}, "cpu", "0.1", {"iris": "a", "wine": "b", "digits": "c", "a.csv": "a"}
)
CELL = Cell("keras", "he_normal", 3)

axes = st.fixed_dictionaries(
    {
        "backends": st.permutations(BACKENDS),
        "initializers": st.lists(st.sampled_from(sorted(entry.name for entry in OWN)), min_size=1, unique=True),
        "seeds": st.lists(st.integers(0, 50), min_size=1, max_size=9, unique=True),
    }
)


@given(axes)
def test_key_ignores_axes(axes):
    """A cell's key does not depend on the order or extent of the axes it was asked under."""
    study = Study(**axes)
    for cell in study.cells():
        assert study.cell_key(cell, HERE) == Study().cell_key(cell, HERE)


@given(axes)
def test_keys_are_distinct(axes):
    """No two cells of a grid share a key."""
    study = Study(**axes)
    assert len({study.cell_key(cell, HERE) for cell in study.cells()}) == len(study.cells())


@pytest.mark.parametrize(
    "change",
    [
        {"split": Split(test_fraction=0.3)},
        {"split": Split(seed=42)},
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
    assert Study(**change).cell_key(CELL, HERE) != Study().cell_key(CELL, HERE)


@pytest.mark.parametrize("field", ["frameworks", "device", "release", "data"])
def test_key_covers_platform(field):
    """Another framework version, device, release or dataset is another cell."""
    from dataclasses import replace

    others = {"frameworks": {"pytorch": "torch 1", "keras": "keras 2"}, "data": {"iris": "other"}}
    other = replace(HERE, **{field: others.get(field, "other")})
    assert Study().cell_key(CELL, other) != Study().cell_key(CELL, HERE)


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
    assert Study(**change).cell_key(CELL, HERE) == Study().cell_key(CELL, HERE)


@given(axes, st.integers(1, 12))
def test_batches_partition_the_cells(axes, max_tasks):
    """Every cell is in exactly one batch, of one backend, and there are about max_tasks of them."""
    study = Study(**axes, max_tasks=max_tasks)
    batches = study.batches(study.cells())
    assert sorted(map(str, (cell for batch in batches for cell in batch.cells))) == sorted(map(str, study.cells()))
    assert all({cell.backend for cell in batch.cells} == {batch.backend} for batch in batches)
    assert len(batches) <= max_tasks + 1


FACTORS = {
    "network.activation": ["relu", "tanh"],
    "remedy": {"none": {}, "clipping": {"recipe.clip_norm": 1.0, "recipe.learning_rate": 0.02}},
}


def test_factors_are_axes():
    """Every combination of levels is crossed with the grid, and sets the settings that it names."""
    study = Study(factors=FACTORS, seeds=1, initializers=("zeros",), backends=("keras",))
    assert [str(cell) for cell in study.cells()] == [
        "keras · activation relu · remedy none · zeros · seed 0",
        "keras · activation relu · remedy clipping · zeros · seed 0",
        "keras · activation tanh · remedy none · zeros · seed 0",
        "keras · activation tanh · remedy clipping · zeros · seed 0",
    ]
    last = study.at(study.cells()[-1].levels)
    assert (last.network.activation, last.recipe.clip_norm, last.recipe.learning_rate) == ("tanh", 1.0, 0.02)
    first = study.at(study.cells()[0].levels)
    assert (first.network, first.recipe, first.factors) == (Network(), Recipe(), {})


def test_a_level_is_the_cell_of_its_settings():
    """A cell has one key, whether its settings came by a factor or were the study's own."""
    study = Study(factors=FACTORS)
    keys = study.cell_keys(HERE)
    assert len(set(keys.values())) == len(study.cells()) == 640
    levels = study.levels()[2]
    plain = Study(network=Network(activation="tanh"))
    assert keys[Cell("keras", "he_normal", 3, levels)] == plain.cell_key(CELL, HERE)
    assert study.cell_key(Cell("keras", "he_normal", 3, levels), HERE) == plain.cell_key(CELL, HERE)


def test_a_level_can_be_empty():
    """A setting that may be empty, such as a clip, has that as a level called none."""
    study = Study(factors={"recipe.clip_norm": [None, 1.0]})
    assert study.levels() == [(("recipe.clip_norm", "none"),), (("recipe.clip_norm", 1.0),)]
    assert [study.at(levels).recipe.clip_norm for levels in study.levels()] == [None, 1.0]
    assert study.cell_keys(HERE)[Cell("keras", "he_normal", 3, study.levels()[0])] == Study().cell_key(CELL, HERE)


def test_checks_without_cells_are_found():
    """A check about a level that the grid lacks is told from one about cells that there are."""
    checks = [
        {"claim": claim, "measure": "test_loss", "at_most": 1, "where": where}
        for claim, where in (
            ("there", {"initializer": "zeros", "activation": "tanh"}),
            ("not there", {"initializer": "lsuv"}),
            ("nor there", {"activation": "elu"}),
        )
    ]
    study = Study(factors={"network.activation": ["relu", "tanh"]}, checks=checks)
    assert [study.has_cells_for(check) for check in study.checks] == [True, False, False]


def test_width_and_depth_are_hidden_units():
    """Width × depth is the same network as its units spelled out, and the same cell."""
    short, long = Network(width=8, depth=3), Network(hidden=(8, 8, 8))
    assert short.units == long.units == (8, 8, 8)
    assert Study(network=short).cell_key(CELL, HERE) == Study(network=long).cell_key(CELL, HERE)


def test_batches_keep_levels_apart():
    """Cells of a batch share every setting but initializer and seed."""
    study = Study(factors=FACTORS, max_tasks=8)
    batches = study.batches(study.cells())
    assert len(batches) == 8
    assert all(len({cell.levels for cell in batch.cells}) == 1 for batch in batches)


def test_initializers_take_parameters():
    """Given as mappings, initializers are kept as labels; two spellings of one are not distinct."""
    assert Study(initializers=[{"name": "random_normal", "std": 0.01}]).initializers == ("random_normal(std=0.01)",)
    with pytest.raises(ValidationError, match="distinct"):
        Study(initializers=["random_normal", {"name": "random_normal", "std": 0.05}])


def test_schema_names_every_initializer():
    """The form that Prefect makes of the schema offers every initializer, and lets parameters through."""
    (names, label, mapping) = Study.model_json_schema()["properties"]["initializers"]["items"]["anyOf"]
    assert {entry.name for entry in OWN} <= set(names["enum"])
    assert "pattern" in label
    assert mapping["required"] == ["name"]


def test_no_cells_no_batches():
    """A study of which nothing is missing has nothing to train."""
    assert Study().batches([]) == []


def test_one_cell_a_task_up_to_the_limit():
    """Up to max_tasks cells each cell is a task of its own."""
    assert {len(batch.cells) for batch in Study().batches(Study().cells())} == {1}


@pytest.mark.parametrize(
    "wrong",
    [
        {"seeds": 0},
        {"seeds": (1, 1)},
        {"seeds": (-1,)},
        {"seeds": ()},
        {"initializers": ()},
        {"initializers": ("he",)},
        {"backends": ("pytorch", "pytorch")},
        {"seeds": 10_000},
        {"unknown": 1},
        {"name": "Not A Name"},
        {"recipe": {"learning_rate": float("nan")}},
        {"weights": "shared", "network": {"bias": "framework"}},
        {"network": {"depth": 3}},
        {"network": {"width": 8, "depth": 3, "hidden": [8, 8]}},
        {"factors": {"network.hidden": [8]}},
        {"checks": [{"claim": "never", "measure": "test_loss", "at_least": 2, "at_most": 1}]},
        {"recipe": {"clip_norm": 1, "clip_value": 1}},
        {"dataset": "mnist"},
        {"dataset": {"path": "a.csv"}},
        {"factors": {"recipe.learning_rate": [0.1, -1]}},
        {"factors": {"recipe.learning_rate": []}},
        {"factors": {"recipe.learning_rate": [0.1, 0.1]}},
        {"factors": {"recipe.rate": [0.1]}},
        {"factors": {"remedy": [0.1]}},
        {"factors": {"seed": {"a": {}}}},
        {"factors": {"verdict": {"a": {}}}},
        {"factors": {"epoch": {"a": {}}}},
        {"factors": {"remedy": {"batch norm + clip": {}}}},
        {"factors": {"remedy?": {"a": {}}}},
        {"factors": {"recipe.epochs": [1, 2], "speed": {"slow": {"recipe.epochs": 3}}}},
        {"recipe": {"clip_norm": 1}, "overrides": {"keras": {"clip_value": 1}}},
        {"factors": {"remedy": {"a": {"network.rate": 1}}}},
        {"factors": {"network.depth": [1, 2]}},
        {"factors": {"recipe.epochs": [1, 2]}, "overrides": {"keras": {"epochs": 3}}},
        {"factors": {"recipe.epochs": list(range(1, 100))}},
        {"checks": [{"claim": "nothing", "measure": "test_loss"}]},
        {"checks": [{"claim": "x", "measure": "loss", "at_least": 1}]},
        {"checks": [{"claim": "x", "measure": "test_loss", "at_least": 1, "where": {"depth": 3}}]},
    ],
)
def test_invalid_studies_are_refused(wrong):
    """What a study does not allow is refused where it enters."""
    with pytest.raises(ValidationError):
        Study.model_validate(wrong)


def test_studies_are_frozen():
    """A study cannot change under those who share it."""
    with pytest.raises(ValidationError):
        Study().name = "other"


def test_matched_recipe_is_comparable():
    """The default study gives both backends the same recipe, to the place of Adam's epsilon."""
    assert Study().backend_differences() == []


def test_epsilon_is_adams_alone():
    """Under SGD epsilon decides nothing: it enters neither key nor differences."""
    sgd, other = (Study(recipe=Recipe(optimizer="sgd", epsilon=epsilon)) for epsilon in (1e-8, 1e-3))
    assert sgd.cell_key(CELL, HERE) == other.cell_key(CELL, HERE)
    assert other.backend_differences() == []


def test_differences_are_named():
    """Whatever differs between the backends is named, the frameworks' silent defaults too."""
    study = Study(
        network=Network(bias="framework"),
        recipe=Recipe(epsilon="framework"),
        overrides={"keras": RecipeChanges(batch_size="full")},
    )
    found = " ".join(study.backend_differences())
    assert all(word in found for word in ("batch_size (pytorch 32, keras full)", "epsilon", "biases"))


def test_import_is_light():
    """Importing the study loads no framework, store or scheduler: the command line answers at once."""
    code = "import sys, tasks.core.design.study; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not loaded & {"prefect", "mlflow", "torch", "tensorflow", "keras", "pandas", "scipy", "sklearn"}


@pytest.mark.parametrize(
    "name", ["left", "p", "run", "margin", "test_loss_mean", "verdict_cells", "weights", "dataset"]
)
def test_factors_do_not_take_a_tables_columns(name):
    """A factor that a table could not hold is refused before anything is trained."""
    with pytest.raises(ValueError, match=r"a factor needs a name of its own|is a setting: give a list"):
        Study(factors={name: {"a": {"recipe.epochs": 1}}})


def test_factors_may_vary_data_and_weights():
    """A factor may set the dataset, the weights or the split; each level is a study of its own, with its own key."""
    study = Study(factors={"dataset": ("iris", "wine"), "weights": ("native", "shared"), "split.test_fraction": (0.2,)})
    assert study.datasets == ["iris", "wine"]
    at = study.at((("dataset", "wine"), ("weights", "shared"), ("split.test_fraction", 0.2)))
    assert (at.dataset, at.weights, at.split.test_fraction, at.factors) == ("wine", "shared", 0.2, {})
    cells = [cell for cell in study.cells() if cell.initializer == "zeros" and cell.seed == 0]
    assert len({study.cell_key(cell, HERE) for cell in cells}) == len(cells) == 8
    with pytest.raises(ValueError, match=r"factors: dataset.*; got \{'dataset': 'irs'\}"):
        Study(factors={"dataset": ("iris", "irs")})
    with pytest.raises(ValueError, match=r"no setting 'target' to go with a list; choose one of network\.width"):
        Study(factors={"target": (0.8, 0.9)})
