import subprocess
import sys

import pytest
from pydantic import ValidationError

from tasks.core.design import grid
from tasks.core.design.faults import faults
from tasks.core.design.grid import Cell
from tasks.core.design.initializers import OWN
from tasks.core.design.settings import Network, Recipe, RecipeChanges
from tasks.core.design.study import Study
from tests.shared.keys import HERE, key, keys_of

RATES = {"recipe.learning_rate": [0.01, 0.1]}


def test_a_level_can_be_empty():
    """A setting that may be empty, such as a clip, has that as a level called none."""
    study = Study(factors={"recipe.clip_norm": [None, 1.0]})
    assert study.levels() == [(("recipe.clip_norm", "none"),), (("recipe.clip_norm", 1.0),)]
    assert [study.at(levels).recipe.clip_norm for levels in study.levels()] == [None, 1.0]
    assert keys_of(study)[Cell("keras", "he_normal", 3, study.levels()[0])] == key(Study())


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
    assert key(Study(network=short)) == key(Study(network=long))


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


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"recipe.learning_rate": [0.1]}, "recipe.learning_rate needs two distinct values or more; got [0.1]"),
        ({"recipe.learning_rate": [0.1, 0.1]}, "recipe.learning_rate needs two distinct values or more"),
        ({"recipe.learning_rate": 0.1}, "Input should be a list, like [0.1]"),
        ({"recipe.learning_rate": [True, 0.1]}, "Input should be a whole number or a number; got True"),
        ({"recipe.learning_rate": ["0.2", 0.1]}, "Input should be a whole number or a number; got '0.2'"),
        ({"recipe.learning_rate": [float("nan"), 0.1]}, "Input should be a finite number"),
        ({"recipe.learning_rate": [-1, 0.1]}, "tune: recipe.learning_rate: Input should be greater than 0; got -1"),
        ({"recipe.shuffle": [0, 1]}, "one setting of the recipe is needed; choose one of recipe.learning_rate, "),
        ({}, "; got none"),
        ({"recipe.epochs": [1, 2], "recipe.batch_size": [8, 9]}, "; got recipe.epochs, recipe.batch_size"),
        ({"recipe.momentum": [0.8, 0.9]}, "tune: recipe.momentum has no effect under the optimizer adam"),
        ({**RATES, "by": "test_loss"}, "Input should be 'validation_loss' or 'validation_accuracy'; got 'test_loss'"),
        ({**RATES, "seeds": 0}, "greater than or equal to 1; got 0"),
    ],
)
def test_what_cannot_be_tuned(wrong, words):
    """One setting of the recipe, that has an effect, is tuned over two numbers or more that the recipe may have."""
    given = {"tune": wrong, "split": {"validation_fraction": 0.2}}
    with pytest.raises(ValidationError) as caught:
        Study.model_validate(given)
    (line,) = faults(caught.value, given, Study)
    assert words in line


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"split": {}}, "split.validation_fraction must be above 0; got 0"),
        ({"factors": {"split.validation_fraction": [0, 0.2]}}, "split.validation_fraction must be above 0; got 0"),
        ({"seeds": [7, 1_000_001]}, "seeds on which tune picks must not be seeds of the study; both have 1000001"),
        (
            {"factors": {"a": {"b": {"recipe.learning_rate": 1}}}},
            "recipe.learning_rate is a factor, so tune must leave",
        ),
        ({"overrides": {"keras": {"learning_rate": 1}}}, "recipe.learning_rate is tuned, so overrides must leave it"),
        ({"seeds": 600}, "must have at most 10,000 cells; they have 12,000"),
    ],
)
def test_studies_that_cannot_be_tuned(changes, words):
    """A tuned study has validation rows, no other setting in the way, seeds to spare, and a grid that is bounded."""
    tune = {**RATES, "seeds": 75}
    with pytest.raises(ValidationError) as caught:
        Study.model_validate({"tune": tune, "split": {"validation_fraction": 0.2}, **changes})
    assert words in str(caught.value)


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
    assert key(sgd) == key(other)
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


@pytest.mark.parametrize("name", ["left", "p", "run", "margin", "test_loss_mean", "health_cells", "weights", "dataset"])
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
    cells = [cell for cell in grid.cells(study) if cell.initializer == "zeros" and cell.seed == 0]
    assert len({key(study, cell, HERE) for cell in cells}) == len(cells) == 8
    with pytest.raises(ValueError, match=r"factors: dataset: Input .*; got 'irs'; did you mean 'iris'"):
        Study(factors={"dataset": ("iris", "irs")})
    with pytest.raises(ValueError, match=r"no setting 'target' to go with a list; choose one of network\.width"):
        Study(factors={"target": (0.8, 0.9)})
