"""Verdicts on made-up cells: who is better, and what holes, misses, ties and unlike recipes do to it."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tasks.core.design.columns import MEASURES, MEASURES_BY_NAME, MeasureName
from tasks.core.design.settings import RecipeChanges
from tasks.core.design.study import Study
from tasks.core.statistics import pairing, ranks, verdicts
from tasks.core.statistics.measures import samples, values
from tasks.core.statistics.table import compare
from tests.shared.samples import THREE, noisy


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
    pairs = pairing.pairs(noisy(), {})
    assert len(pairs) == 2 * 3 * len(MEASURES)
    for measure in ("test_accuracy", "test_loss", "brier_score", "loss_area", "epochs_to_target"):
        assert pair(pairs, measure)["verdict"] == "better"
        assert pair(pairs, measure, "glorot_uniform", "he_normal")["verdict"] != "better"
    assert {each.name for each in MEASURES} == set(MeasureName.__args__)


def test_pairs_are_by_seed():
    """Estimate and interval are of the paired t-test, of a loss of the logarithms; the plain difference is beside them.

    p is paid for all backends and primary measures, and never below that of the pair by itself.
    """
    frame = noisy()
    row = pair(pairing.pairs(frame, {}), "test_loss")
    wide = frame[frame["backend"] == "pytorch"].pivot_table("test_loss", "seed", "initializer")
    test = stats.ttest_rel(np.log(wide["he_normal"]), np.log(wide["zeros"]))
    assert row["estimate"] == pytest.approx(stats.gmean(wide["he_normal"] / wide["zeros"]))
    assert (row["low"], row["high"]) == pytest.approx(tuple(np.exp(test.confidence_interval(0.95))))
    assert row["sd"] == pytest.approx(stats.gstd(wide["he_normal"] / wide["zeros"]))
    assert row["difference"] == pytest.approx((wide["he_normal"] - wide["zeros"]).mean())
    brier = pair(pairing.pairs(frame, {}), "brier_score")
    wide = frame[frame["backend"] == "pytorch"].pivot_table("brier_score", "seed", "initializer")
    plain = stats.ttest_rel(wide["he_normal"], wide["zeros"])
    assert (brier["low"], brier["high"]) == pytest.approx(tuple(plain.confidence_interval(0.95)))
    assert brier["estimate"] == brier["difference"]
    assert 4 * test.pvalue <= row["p"] * (1 + 1e-9) < 1e-7  # two backends by two primary measures
    assert row["effect_size"] < 0  # the loss is lower
    assert (row["better_share"], row["n"], row["left_out"]) == (1.0, 10, 0)


def test_margins_make_equivalence():
    """What is surely within the margin is equivalent; without a margin nothing is."""
    frame = noisy()
    assert pair(pairing.pairs(frame, {}), "test_loss", "glorot_uniform", "he_normal")["verdict"] == "undecided"
    wide = pairing.pairs(frame, {"test_loss": 1.0})
    assert pair(wide, "test_loss", "glorot_uniform", "he_normal")["verdict"] == "equivalent"
    assert pair(wide, "test_loss")["verdict"] == "better"
    tied = frame.assign(test_accuracy=0.9)
    assert pair(pairing.pairs(tied, {}), "test_accuracy")["verdict"] == "equivalent"  # the margin is one test row


def test_undecided_says_how_many_more_seeds():
    """What is undecided has a number of seeds to settle it; what is decided has none."""
    pairs = pairing.pairs(noisy(), {})
    undecided = pairs["verdict"] == "undecided"
    with_time = pairs["measure"] == "train_seconds"
    assert (pairs.loc[undecided & ~with_time, "more_seeds"] >= 1).all()
    assert pairs.loc[~undecided, "more_seeds"].isna().all()


def test_a_loss_of_zero_has_a_ratio():
    """A loss of 0 counts as the least that float32 tells: two such losses are equal, and any real loss is far above."""
    frame = noisy()
    lost = frame["initializer"] == "he_normal"
    zeros = pair(pairing.pairs(frame.assign(test_loss=0.0), {}), "test_loss")
    assert (zeros["estimate"], zeros["verdict"]) == (1, "equivalent")
    row = pair(pairing.pairs(frame.assign(test_loss=frame["test_loss"].mask(lost, 0.0)), {}), "test_loss")
    assert row["verdict"] == "better"
    assert 0 < row["estimate"] < 1e-6


def test_the_other_side_of_a_ratio():
    """Seen from the other side a ratio is its reciprocal, and its interval turns around."""
    pairs = pairing.pairs(noisy(), {})
    back = verdicts.turned(pairs)
    ratio = (pairs["scale"] == "ratio") & pairs["estimate"].notna()
    assert (back["estimate"] * pairs["estimate"])[ratio].to_numpy() == pytest.approx(1)
    assert (back["low"] * pairs["high"])[ratio].to_numpy() == pytest.approx(1)
    assert back["low"][~ratio].equals(-pairs["high"][~ratio])
    again = verdicts.turned(back)[["estimate", "low", "high"]].to_numpy()
    assert again == pytest.approx(pairs[["estimate", "low", "high"]].to_numpy(), nan_ok=True)


def test_a_hole_loses():
    """Of one that diverged in every seed this is told, although there is no difference to measure; it is counted."""
    frame = noisy()
    frame.loc[frame["initializer"] == "zeros", "status"] = "diverged"
    row = pair(pairing.pairs(frame, {}), "test_loss")
    assert (row["verdict"], row["n"], row["left_out"], row["better_share"]) == ("always finishes", 0, 10, 1.0)
    assert np.isnan(row["difference"])


def test_a_lucky_survivor_is_not_equivalent():
    """One that diverged in half of the seeds is not called equivalent, or better, for the half that was left."""
    frame = noisy(seeds=6).assign(test_loss=0.2)
    zeros = (frame["initializer"] == "zeros") & (frame["seed"] < 3)
    frame.loc[zeros, "status"] = "failed"
    frame.loc[frame["initializer"] == "zeros", "test_loss"] = 0.15
    row = pair(pairing.pairs(frame, {}), "test_loss")
    assert row["verdict"] == "undecided"
    assert row["left_out"] == 3


def test_holes_on_both_sides_decide_nothing():
    """Seeds in which neither finished say nothing; a grid of holes alone is undecided throughout."""
    frame = noisy().assign(status="failed", test_accuracy=np.nan)
    pairs = pairing.pairs(frame, {})
    assert set(pairs["verdict"]) == {"undecided"}
    assert set(pairing.backends(Study(initializers=THREE), frame)["verdict"]) == {"undecided"}
    assert ranks.rankings(frame, pairs)[0].ranks.friedman == 1


def test_a_measure_that_was_not_recorded_is_no_hole():
    """A finished cell without a number, as an older release left it, decides nothing; it has not lost."""
    frame = noisy()
    frame.loc[frame["initializer"] == "zeros", "brier_score"] = np.nan
    row = pair(pairing.pairs(frame, {}), "brier_score")
    assert (row["verdict"], row["n"], row["left_out"]) == ("undecided", 0, 0)
    assert pair(pairing.pairs(frame.assign(test_rows=np.nan), {}), "test_accuracy")["verdict"] == "better"
    before = noisy().assign(run="first", loss_area=np.nan)
    rows = pairing.runs(pd.concat([before, noisy().assign(run="second")]), {})
    assert set(rows.loc[rows["measure"] == "loss_area", "verdict"]) == {"undecided"}


def test_a_group_that_one_side_lacks_is_survived():
    """Where a backend, or a run, has no cell of an initializer at all, its other initializers are compared."""
    frame = noisy()
    frame = frame[(frame["backend"] != "keras") | (frame["initializer"] != "zeros")]
    rows = pairing.backends(Study(initializers=THREE), frame).set_index(["measure", "initializer"])
    assert rows.loc[("test_loss", "zeros"), ["n", "verdict"]].tolist() == [0, "undecided"]
    assert rows.loc[("test_loss", "he_normal"), "n"] == 10


def test_missing_rows_are_survived():
    """A grid that lacks some rows altogether is compared over the seeds that there are."""
    frame = noisy()
    frame = frame.drop(frame.index[(frame["initializer"] == "zeros") & (frame["seed"] > 6)])
    row = pair(pairing.pairs(frame, {}), "test_loss")
    assert (row["n"], row["left_out"], row["verdict"]) == (7, 0, "better")


def test_misses_are_censored():
    """Two that never reach the target are not equivalent for it; one that reaches it is better than one that misses."""
    frame = noisy()
    frame.loc[frame["initializer"] == "glorot_uniform", "epochs_to_target"] = np.nan
    pairs = pairing.pairs(frame, {"epochs_to_target": 5.0})
    assert pair(pairs, "epochs_to_target", "glorot_uniform", "zeros")["verdict"] == "undecided"
    assert pair(pairs, "epochs_to_target")["verdict"] == "better"
    assert values(frame, MEASURES_BY_NAME["epochs_to_target"]).max() == 20
    diverged = frame.assign(status="diverged")
    assert values(diverged, MEASURES_BY_NAME["epochs_to_target"]).notna().all()
    assert values(diverged, MEASURES_BY_NAME["test_loss"]).isna().all()


def test_a_batch_has_one_train_time():
    """Cells of a batch share its time, so ten seeds of two batches are two times, and decide nothing."""
    frame = noisy()
    frame["train_seconds"] = 0.01 + (frame["initializer"] == "zeros") * (0.2 + 0.1 * (frame["seed"] > 4))
    row = pair(pairing.pairs(frame, {}), "train_seconds")
    assert (row["n"], row["verdict"]) == (2, "undecided")
    poor = [np.flatnonzero(frame["initializer"] == "zeros")]
    assert len(samples(frame, MEASURES_BY_NAME["train_seconds"], poor)[0]) == 2
    assert len(samples(frame, MEASURES_BY_NAME["epochs_to_target"], poor)[0]) == 0  # which they never reach


def test_backends_are_compared_where_they_can_be():
    """Each initializer's PyTorch − Keras has a verdict, and none where their recipes differ."""
    frame = noisy()
    frame.loc[frame["backend"] == "keras", "test_loss"] += 1.0
    rows = pairing.backends(Study(initializers=THREE), frame).set_index(["measure", "initializer"])
    assert rows.loc[("test_loss", "he_normal"), "verdict"] == "better"
    assert rows.loc[("test_loss", "he_normal"), "difference"] == pytest.approx(-1, abs=0.1)
    unlike = Study(initializers=THREE, overrides={"keras": RecipeChanges(learning_rate=0.1)})
    assert set(pairing.backends(unlike, frame)["verdict"]) == {"not comparable"}
    assert pairing.backends(Study(backends=("keras",)), frame[frame["backend"] == "keras"]).empty


def test_against_the_best():
    """Each initializer stands against the best mean of its backend and level."""
    frame = noisy()
    table = pairing.against_best(compare(frame), pairing.pairs(frame, {})).set_index(["backend", "initializer"])
    assert table.loc[("pytorch", "zeros"), "test_accuracy_against_best"] == "worse"
    assert sorted(table.loc["pytorch", "test_loss_against_best"].str.partition(" ")[0]) == [
        "best",
        "undecided",
        "worse",
    ]
    lone = frame[frame["initializer"] == "zeros"]
    assert set(pairing.against_best(compare(lone), pairing.pairs(lone, {}))["test_loss_against_best"]) == {""}
    frame.loc[frame["initializer"] != "he_normal", "status"] = "failed"
    rest = pairing.against_best(compare(frame), pairing.pairs(frame, {})).set_index("initializer")
    assert set(rest.loc["he_normal", "test_loss_against_best"]) == {"best"}
    frame["status"] = "failed"
    table = pairing.against_best(compare(frame), pairing.pairs(frame, {}))
    assert set(table["test_accuracy_against_best"]) == {""}


def test_runs_are_set_side_by_side():
    """A second run of which all losses rose is worse by loss and equivalent by accuracy."""
    first = noisy()
    second = first.assign(test_loss=1.5 * first["test_loss"])
    rows = pairing.runs(pd.concat([first.assign(run="first"), second.assign(run="second")]), {})
    assert list(rows.columns[:3]) == ["backend", "measure", "initializer"]
    assert set(rows.loc[rows["measure"] == "test_loss", "verdict"]) == {"worse"}
    assert set(rows.loc[rows["measure"] == "test_accuracy", "verdict"]) == {"equivalent"}
