import numpy as np
import pandas as pd
import pytest

from tasks.core.design.settings import Network, Recipe, RecipeChanges
from tasks.core.design.study import Study
from tasks.core.statistics.spread import components, defaults, spread
from tests.calibration import estimates
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
    assert np.mean([components(values) for values in made], axis=0) == pytest.approx([4, 1, 0.5], rel=0.12)
    assert components(np.ones((2, 3, 4))).tolist() == [0, 0, 0]
    assert components(made[0][:1, :1]).tolist() == [0, 0, 0]


LEVELS = {"nothing": {}, "split": {"split.seed": "redrawn"}, "weights": {"network.weights_seed": "redrawn"}}


def test_spread_is_told_apart():
    """A level that redraws a stream gives its share, the level that redraws nothing gives backend and initializer."""
    study = Study(initializers=THREE[:2], seeds=200, factors={"redrawn": LEVELS})
    parts = {name: noisy(200, THREE[:2], redrawn=name) for name in LEVELS}
    rng = np.random.default_rng(0)
    own = {name: rng.normal(0, sd, len(parts[name])) for name, sd in (("split", 0.04), ("weights", 0.01))}
    again = {name: rng.normal(0, sd, len(parts[name])) for name, sd in (("split", 0.04), ("weights", 0.01))}
    for level, frame in parts.items():
        drawn = {name: again[name] if name == level else own[name] for name in own}
        frame["test_accuracy"] = 0.5 + drawn["split"] + drawn["weights"]
        frame["test_loss"] = np.exp(5 * (drawn["split"] + drawn["weights"]))
    rows = spread(study, pd.concat(parts.values(), ignore_index=True)).set_index(["measure", "source"])
    for source, sd in (("split", 0.04), ("weights", 0.01), ("split + batch order + weights", 0.0412)):
        assert rows.loc[("test_accuracy", source), "sd"] == pytest.approx(sd, rel=0.1)
        assert np.log(rows.loc[("test_loss", source), "sd"]) == pytest.approx(5 * sd, rel=0.1)
    assert (rows["low"] <= rows["sd"]).all()
    assert (rows["sd"] <= rows["high"]).all()
    alone = rows.loc[("test_accuracy", "weights")]
    assert alone["least"] < alone["low"] < alone["high"] < alone["most"]
    assert ("test_accuracy", "backend") in rows.index
    assert spread(Study(initializers=THREE), noisy()).empty


def test_a_redrawn_level_is_held_against_the_level_it_differs_from():
    """With another factor each redrawn level has a partner of its own; a level that redraws two streams has none."""
    both = {"both": {"split.seed": "redrawn", "network.weights_seed": "redrawn"}}
    study = Study(initializers=THREE[:2], factors={"recipe.epochs": (5, 10), "redrawn": LEVELS | both})
    frames = [noisy(epochs=epochs, redrawn=name) for epochs in (5, 10) for name in LEVELS | both]
    rows = spread(study, pd.concat(frames, ignore_index=True))
    found = rows.loc[rows["source"] == "weights", "level"]
    assert sorted(set(found)) == ["epochs 10 · redrawn weights", "epochs 5 · redrawn weights"]
    assert not rows["level"].str.contains("both").any()


def test_a_hole_leaves_its_seed_out():
    """A seed in which some group did not finish counts for no group, for sources then rest on the same seeds."""
    frame = pd.concat([noisy(redrawn=name) for name in LEVELS], ignore_index=True)
    frame.loc[(frame["redrawn"] == "split") & (frame["seed"] == 0) & (frame["backend"] == "keras"), "status"] = (
        "diverged"
    )
    rows = spread(Study(initializers=THREE, factors={"redrawn": LEVELS}), frame).set_index(["measure", "source"])
    assert rows.loc[("test_loss", "split"), "seeds"] == 9
    assert rows.loc[("test_loss", "weights"), "seeds"] == 10


@pytest.mark.parametrize("dataset", estimates.SMALL)
@pytest.mark.parametrize("measure", estimates.RANKED)
def test_intervals_contain_what_fresh_seeds_give(dataset, measure):
    """Of real cells, 88 % or more of the intervals from 30 seeds contain the SD over all seeds."""
    assert estimates.spread_covered(np.random.default_rng(0), dataset, measure, 200).mean() > 0.88


@pytest.mark.parametrize("dataset", estimates.SMALL)
@pytest.mark.parametrize("measure", estimates.RANKED)
def test_single_seeds_reach_as_far_as_held_ones(dataset, measure):
    """The SD that one stream gives while the others are held at one seed lies between the ends of 30 single seeds."""
    assert (estimates.held_covered(np.random.default_rng(0), dataset, measure, 200) > 0.95).all()


def test_seeds_of_streams_are_settings():
    """A stream held at one seed is the same in every cell, and is part of the cell's key."""
    study = Study(network=Network(weights_seed=3), recipe=Recipe(order_seed=4))
    settings = study.settings("pytorch", ())
    assert (settings.network.weights_seed, settings.recipe.order_seed) == (3, 4)


def test_defaults_are_native_less_shared():
    """What the frameworks' own initializers make is the difference under native less that under shared weights."""
    native, shared = (noisy(weights=weights) for weights in ("native", "shared"))
    native.loc[native["backend"] == "pytorch", "test_accuracy"] += 0.5
    native.loc[native["backend"] == "pytorch", "test_loss"] *= 2
    study = Study(initializers=THREE, factors={"weights": ("native", "shared")})
    rows = defaults(study, pd.concat([native, shared], ignore_index=True))
    accuracy, loss = (
        rows.set_index(["measure", "initializer"]).loc[(name, "he_normal")] for name in ("test_accuracy", "test_loss")
    )
    assert accuracy["estimate"] == pytest.approx(accuracy["native"] - accuracy["shared"]) == pytest.approx(0.5)
    assert loss["estimate"] == pytest.approx(loss["native"] / loss["shared"]) == pytest.approx(2)
    assert accuracy["low"] <= accuracy["estimate"] <= accuracy["high"]
    assert defaults(Study(initializers=THREE), native).empty
    unlike = study.model_copy(update={"overrides": {"keras": RecipeChanges(learning_rate=0.1)}})
    assert defaults(unlike, pd.concat([native, shared], ignore_index=True)).empty
