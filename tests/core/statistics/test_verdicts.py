"""Verdicts on made-up cells: who is better, and what holes, misses, ties and unlike recipes do to it."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tasks.core.design.study import MarginMeasure, Network, Recipe, RecipeChanges, Study
from tasks.core.statistics import verdicts
from tasks.core.statistics.measures import MEASURES, best, sample, values
from tasks.core.statistics.table import compare
from tests.shared.samples import cells

THREE = ("glorot_uniform", "he_normal", "zeros")


def noisy(seeds=10, initializers=THREE, backends=("pytorch", "keras"), **levels):
    """Return cells of which zeros are far worse; the two others differ by noise alone, in every measure."""
    frame = cells(initializers, seeds, backends, **levels)
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, len(frame))
    poor = frame["initializer"] == "zeros"
    frame["test_accuracy"] = (29 + rng.integers(-1, 2, len(frame)) - 15 * poor) / 30
    frame["test_loss"] = 0.2 + 0.05 * noise + poor
    frame["brier_score"] = 0.1 + 0.02 * noise + poor
    frame["loss_area"] = 0.4 + 0.05 * noise + poor
    frame["epochs_to_target"] = np.where(poor, np.nan, np.round(4 + noise))
    return frame


def pair(pairs, measure, left="he_normal", right="zeros", backend="pytorch"):
    (row,) = pairs[
        (pairs["measure"] == measure)
        & (pairs["left"] == left)
        & (pairs["right"] == right)
        & (pairs["backend"] == backend)
    ].to_dict("records")
    return row


def test_every_pair_by_every_measure():
    """Each two initializers of a backend are compared once by each measure; a poor one is worse by all but its time."""
    pairs = verdicts.pairs(noisy(), {})
    assert len(pairs) == 2 * 3 * len(MEASURES)
    for measure in ("test_accuracy", "test_loss", "brier_score", "loss_area", "epochs_to_target"):
        assert pair(pairs, measure)["verdict"] == "better"
        assert pair(pairs, measure, "glorot_uniform", "he_normal")["verdict"] != "better"
    assert {each.name for each in MEASURES} == set(MarginMeasure.__args__)


def test_pairs_are_by_seed():
    """Difference, interval and p are of the paired t-test; Holm multiplies the smallest p by the number of pairs."""
    frame = noisy()
    row = pair(verdicts.pairs(frame, {}), "test_loss")
    wide = frame[frame["backend"] == "pytorch"].pivot_table("test_loss", "seed", "initializer")
    test = stats.ttest_rel(wide["he_normal"], wide["zeros"])
    assert row["difference"] == pytest.approx((wide["he_normal"] - wide["zeros"]).mean())
    assert (row["low"], row["high"]) == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert test.pvalue <= row["p"] <= 3 * test.pvalue * (1 + 1e-9)
    assert row["effect_size"] < 0  # the loss is lower
    assert (row["better_share"], row["n"], row["left_out"]) == (1.0, 10, 0)


def test_margins_make_equivalence():
    """What is surely within the margin is equivalent; without a margin nothing is."""
    frame = noisy()
    assert pair(verdicts.pairs(frame, {}), "test_loss", "glorot_uniform", "he_normal")["verdict"] == "undecided"
    wide = verdicts.pairs(frame, {"test_loss": 0.5})
    assert pair(wide, "test_loss", "glorot_uniform", "he_normal")["verdict"] == "equivalent"
    assert pair(wide, "test_loss")["verdict"] == "better"
    tied = frame.assign(test_accuracy=0.9)
    assert pair(verdicts.pairs(tied, {}), "test_accuracy")["verdict"] == "equivalent"  # the margin is one test row


def test_undecided_says_how_many_more_seeds():
    """What is undecided has a number of seeds to settle it; what is decided has none."""
    pairs = verdicts.pairs(noisy(), {})
    undecided = pairs["verdict"] == "undecided"
    with_time = pairs["measure"] == "train_seconds"
    assert (pairs.loc[undecided & ~with_time, "more_seeds"] >= 1).all()
    assert pairs.loc[~undecided, "more_seeds"].isna().all()


def test_a_hole_loses():
    """One that diverged in every seed is worse, although there is no difference to measure; it is counted."""
    frame = noisy()
    frame.loc[frame["initializer"] == "zeros", "status"] = "diverged"
    row = pair(verdicts.pairs(frame, {}), "test_loss")
    assert (row["verdict"], row["n"], row["left_out"], row["better_share"]) == ("better", 0, 10, 1.0)
    assert np.isnan(row["difference"])


def test_a_lucky_survivor_is_not_equivalent():
    """One that diverged in half of the seeds is not called equivalent, or better, for the half that was left."""
    frame = noisy(seeds=6).assign(test_loss=0.2)
    zeros = (frame["initializer"] == "zeros") & (frame["seed"] < 3)
    frame.loc[zeros, "status"] = "failed"
    frame.loc[frame["initializer"] == "zeros", "test_loss"] = 0.15
    row = pair(verdicts.pairs(frame, {}), "test_loss")
    assert row["verdict"] == "undecided"
    assert row["left_out"] == 3


def test_holes_on_both_sides_decide_nothing():
    """Seeds in which neither finished say nothing; a grid of holes alone is undecided throughout."""
    frame = noisy().assign(status="failed", test_accuracy=np.nan)
    pairs = verdicts.pairs(frame, {})
    assert set(pairs["verdict"]) == {"undecided"}
    assert set(verdicts.backends(Study(initializers=THREE), frame)["verdict"]) == {"undecided"}
    assert verdicts.rankings(frame)[0].ranks.friedman == 1


def test_a_measure_that_was_not_recorded_is_no_hole():
    """A finished cell without a number, as an older release left it, decides nothing; it has not lost."""
    frame = noisy()
    frame.loc[frame["initializer"] == "zeros", "brier_score"] = np.nan
    row = pair(verdicts.pairs(frame, {}), "brier_score")
    assert (row["verdict"], row["n"], row["left_out"]) == ("undecided", 0, 0)
    assert pair(verdicts.pairs(frame.assign(test_rows=np.nan), {}), "test_accuracy")["verdict"] == "better"
    before = noisy().assign(run="first", loss_area=np.nan)
    rows = verdicts.runs(pd.concat([before, noisy().assign(run="second")]), {})
    assert set(rows.loc[rows["measure"] == "loss_area", "verdict"]) == {"undecided"}


def test_a_group_that_one_side_lacks_is_survived():
    """Where a backend, or a run, has no cell of an initializer at all, its other initializers are compared."""
    frame = noisy()
    frame = frame[(frame["backend"] != "keras") | (frame["initializer"] != "zeros")]
    rows = verdicts.backends(Study(initializers=THREE), frame).set_index(["measure", "initializer"])
    assert rows.loc[("test_loss", "zeros"), ["n", "verdict"]].tolist() == [0, "undecided"]
    assert rows.loc[("test_loss", "he_normal"), "n"] == 10


def test_missing_rows_are_survived():
    """A grid that lacks some rows altogether is compared over the seeds that there are."""
    frame = noisy()
    frame = frame.drop(frame.index[(frame["initializer"] == "zeros") & (frame["seed"] > 6)])
    row = pair(verdicts.pairs(frame, {}), "test_loss")
    assert (row["n"], row["left_out"], row["verdict"]) == (7, 0, "better")


def test_misses_are_censored():
    """Two that never reach the target are not equivalent for it; one that reaches it is better than one that misses."""
    frame = noisy()
    frame.loc[frame["initializer"] == "glorot_uniform", "epochs_to_target"] = np.nan
    pairs = verdicts.pairs(frame, {"epochs_to_target": 5.0})
    assert pair(pairs, "epochs_to_target", "glorot_uniform", "zeros")["verdict"] == "undecided"
    assert pair(pairs, "epochs_to_target")["verdict"] == "better"
    assert values(frame, "epochs_to_target").max() == 20
    diverged = frame.assign(status="diverged")
    assert values(diverged, "epochs_to_target").notna().all()
    assert values(diverged, "test_loss").isna().all()


def test_a_batch_has_one_train_time():
    """Cells of a batch share its time, so ten seeds of two batches are two times, and decide nothing."""
    frame = noisy()
    frame["train_seconds"] = 0.01 + (frame["initializer"] == "zeros") * (0.2 + 0.1 * (frame["seed"] > 4))
    row = pair(verdicts.pairs(frame, {}), "train_seconds")
    assert (row["n"], row["verdict"]) == (2, "undecided")
    assert len(sample(frame[frame["initializer"] == "zeros"], "train_seconds")) == 2
    assert len(sample(frame[frame["initializer"] == "zeros"], "epochs_to_target")) == 0  # which they never reach


def test_backends_are_compared_where_they_can_be():
    """Each initializer's PyTorch − Keras has a verdict, and none where their recipes differ."""
    frame = noisy()
    frame.loc[frame["backend"] == "keras", "test_loss"] += 1.0
    rows = verdicts.backends(Study(initializers=THREE), frame).set_index(["measure", "initializer"])
    assert rows.loc[("test_loss", "he_normal"), "verdict"] == "better"
    assert rows.loc[("test_loss", "he_normal"), "difference"] == pytest.approx(-1, abs=0.1)
    unlike = Study(initializers=THREE, overrides={"keras": RecipeChanges(learning_rate=0.1)})
    assert set(verdicts.backends(unlike, frame)["verdict"]) == {"not comparable"}
    assert verdicts.backends(Study(backends=("keras",)), frame[frame["backend"] == "keras"]).empty


def test_defaults_are_native_less_shared():
    """What the frameworks' own initializers make is the difference under native less that under shared weights."""
    native, shared = (noisy(weights=weights) for weights in ("native", "shared"))
    native.loc[native["backend"] == "pytorch", "test_loss"] += 0.5
    study = Study(initializers=THREE, factors={"weights": ("native", "shared")})
    rows = verdicts.defaults(study, pd.concat([native, shared], ignore_index=True))
    found = rows.set_index(["measure", "initializer"]).loc[("test_loss", "he_normal")]
    assert found["difference"] == pytest.approx(0.5)
    assert found["native"] - found["shared"] == pytest.approx(0.5)
    assert found["low"] <= 0.5 <= found["high"]
    assert verdicts.defaults(Study(initializers=THREE), native).empty
    unlike = study.model_copy(update={"overrides": {"keras": RecipeChanges(learning_rate=0.1)}})
    assert verdicts.defaults(unlike, pd.concat([native, shared], ignore_index=True)).empty


def test_rankings_are_over_seeds_or_datasets():
    """Seeds of one dataset are the blocks; over several datasets these are, each by its mean over seeds."""
    (first, *_) = verdicts.rankings(noisy())
    assert (first.blocks, first.ranks.blocks, len(first.initializers)) == ("seeds", 10, 3)
    assert first.initializers[int(np.argmax(first.ranks.mean))] == "zeros"
    several = pd.concat([noisy(dataset=name) for name in ("iris", "wine", "digits")], ignore_index=True)
    several.loc[several.index[-1], "status"] = "failed"  # keras · digits · zeros, which has a hole and is last
    over = verdicts.rankings(several)
    assert [(each.backend, each.blocks, each.ranks.blocks) for each in over] == [
        ("pytorch", "datasets", 3),
        ("pytorch", "datasets", 3),
        ("keras", "datasets", 3),
        ("keras", "datasets", 3),
    ]
    assert over[-1].ranks.mean[over[-1].initializers.index("zeros")] == 3
    assert set(verdicts.ranks_table(over)["blocks"]) == {"3 datasets"}


def test_reaching_counts_every_cell_that_ran():
    """A miss is censored where training ended; a failed cell was never under way."""
    frame = noisy()
    frame.loc[0, "status"] = "failed"
    (first, _) = verdicts.reaching(frame)
    assert (first.missed, first.cells) == (10, 29)
    assert first.curves["zeros"].share.tolist() == [1.0]
    assert first.p < 0.001


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
    rows = verdicts.spread(study, pd.concat(parts, ignore_index=True)).set_index(["measure", "source"])
    assert rows.loc[("test_accuracy", "split"), "sd"] == pytest.approx(0.04, rel=0.2)
    assert rows.loc[("test_accuracy", "weights"), "sd"] == pytest.approx(0.01, rel=0.2)
    everything = rows.loc[("test_accuracy", "split + batch order + weights")]
    assert everything["low"] < everything["sd"] < everything["high"]
    assert ("test_accuracy", "backend") in rows.index
    assert verdicts.spread(Study(initializers=THREE), noisy()).empty


def test_nemenyi_is_read_where_friedman_finds_something():
    """Ranks beyond the critical difference are not told apart unless Friedman's test says that there are any."""
    ranks = verdicts.rankings(noisy())[0].ranks
    assert verdicts.apart(ranks).any()
    assert not verdicts.apart(replace(ranks, friedman=0.06)).any()


def test_against_the_best():
    """Each initializer stands against the best mean of its backend and level."""
    frame = noisy()
    table = verdicts.against_best(compare(frame), verdicts.pairs(frame, {})).set_index(["backend", "initializer"])
    assert table.loc[("pytorch", "zeros"), "test_accuracy_against_best"] == "worse"
    assert sorted(table.loc["pytorch", "test_loss_against_best"].str.partition(" ")[0]) == [
        "best",
        "undecided",
        "worse",
    ]
    lone = frame[frame["initializer"] == "zeros"]
    assert set(verdicts.against_best(compare(lone), verdicts.pairs(lone, {}))["test_loss_against_best"]) == {""}
    frame.loc[frame["initializer"] != "he_normal", "status"] = "failed"
    rest = verdicts.against_best(compare(frame), verdicts.pairs(frame, {})).set_index("initializer")
    assert set(rest.loc["he_normal", "test_loss_against_best"]) == {"best"}
    frame["status"] = "failed"
    table = verdicts.against_best(compare(frame), verdicts.pairs(frame, {}))
    assert set(table["test_accuracy_against_best"]) == {""}


def test_runs_are_set_side_by_side():
    """A second run of which all losses rose is worse by loss and equivalent by accuracy."""
    first = noisy()
    second = first.assign(test_loss=first["test_loss"] + 0.1)
    rows = verdicts.runs(pd.concat([first.assign(run="first"), second.assign(run="second")]), {})
    assert list(rows.columns[:3]) == ["backend", "measure", "initializer"]
    assert set(rows.loc[rows["measure"] == "test_loss", "verdict"]) == {"worse"}
    assert set(rows.loc[rows["measure"] == "test_accuracy", "verdict"]) == {"equivalent"}


def test_best_cell():
    """The best cell finished, has the highest accuracy and, among those, the lowest loss."""
    frame = noisy(seeds=3)
    frame["test_accuracy"], frame["test_loss"] = 0.9, 0.5
    frame.loc[1, "test_loss"] = 0.1
    frame.loc[2, ["test_accuracy", "status"]] = [1.0, "diverged"]
    assert best(frame, "pytorch") == 1
    assert best(frame.assign(status="failed"), "pytorch") is None


def test_seeds_of_streams_are_settings():
    """A stream held at one seed is the same in every cell, and is part of the cell's key."""
    study = Study(network=Network(weights_seed=3), recipe=Recipe(order_seed=4))
    settings = study.settings("pytorch", ())
    assert (settings["network"]["weights_seed"], settings["recipe"]["order_seed"]) == (3, 4)
