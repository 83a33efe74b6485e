import numpy as np
import pandas as pd
import pytest

from tasks.core.design.settings import Network, Recipe, RecipeChanges
from tasks.core.design.study import Study
from tasks.core.statistics.spread import components, defaults, spread
from tests.shared.samples import THREE, noisy


def test_components_are_recovered():
    """Of values made with known variances, seeds shared by all groups, the components are those variances."""
    rng = np.random.default_rng(0)
    made = [
        rng.normal(0, 2, (30, 1, 1))
        + rng.normal(0, 1, (1, 30, 1))
        + rng.normal(0, 0.5**0.5, (30, 30, 1))
        + rng.normal(0, 3**0.5, (1, 1, 20))  # a seed's split, which every group has
        + rng.normal(0, 2**0.5, (30, 30, 20))
        for _ in range(30)
    ]
    assert np.mean([components(values) for values in made], axis=0) == pytest.approx([4, 1, 0.5, 5], rel=0.12)
    assert components(np.ones((2, 3, 4))).tolist() == [0, 0, 0, 0]
    alone = components(made[0][:1, :1])
    assert alone == pytest.approx([0, 0, 0, made[0][0, 0].var(ddof=1)])


def test_spread_is_told_apart():
    """Levels that vary one stream alone give its share, the level of all gives backend and initializer."""
    levels = {
        "everything": {},
        "split": {"recipe.order_seed": 0, "network.weights_seed": 0},
        "weights": {"split.seed": 0, "recipe.order_seed": 0},
    }
    study = Study(initializers=THREE[:2], seeds=10, factors={"varied": levels})
    assert study.at((("varied", "split"),)).recipe.order_seed == 0
    parts = [noisy(initializers=THREE[:2], varied=name) for name in levels]
    rng = np.random.default_rng(0)
    for frame, sd in zip(parts, (0.05, 0.04, 0.01), strict=True):
        frame["test_accuracy"] = rng.normal(0.9, sd, len(frame))
    rows = spread(study, pd.concat(parts, ignore_index=True)).set_index(["measure", "source"])
    assert rows.loc[("test_accuracy", "split"), "sd"] == pytest.approx(0.04, rel=0.2)
    assert rows.loc[("test_accuracy", "weights"), "sd"] == pytest.approx(0.01, rel=0.2)
    everything = rows.loc[("test_accuracy", "split + batch order + weights")]
    assert everything["low"] < everything["sd"] < everything["high"]
    assert ("test_accuracy", "backend") in rows.index
    assert spread(Study(initializers=THREE), noisy()).empty


def test_seeds_of_streams_are_settings():
    """A stream held at one seed is the same in every cell, and is part of the cell's key."""
    study = Study(network=Network(weights_seed=3), recipe=Recipe(order_seed=4))
    settings = study.settings("pytorch", ())
    assert (settings.network.weights_seed, settings.recipe.order_seed) == (3, 4)


def test_defaults_are_native_less_shared():
    """What the frameworks' own initializers make is the difference under native less that under shared weights."""
    native, shared = (noisy(weights=weights) for weights in ("native", "shared"))
    native.loc[native["backend"] == "pytorch", "test_loss"] += 0.5
    study = Study(initializers=THREE, factors={"weights": ("native", "shared")})
    rows = defaults(study, pd.concat([native, shared], ignore_index=True))
    found = rows.set_index(["measure", "initializer"]).loc[("test_loss", "he_normal")]
    assert found["difference"] == pytest.approx(0.5)
    assert found["native"] - found["shared"] == pytest.approx(0.5)
    assert found["low"] <= 0.5 <= found["high"]
    assert defaults(Study(initializers=THREE), native).empty
    unlike = study.model_copy(update={"overrides": {"keras": RecipeChanges(learning_rate=0.1)}})
    assert defaults(unlike, pd.concat([native, shared], ignore_index=True)).empty
