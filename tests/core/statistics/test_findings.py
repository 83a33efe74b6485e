import numpy as np
import pandas as pd
import pytest
from tests.core.test_verdicts import THREE, noisy

from tasks.core.design.study import Check, RecipeChanges, Study
from tasks.core.statistics import checks
from tasks.core.statistics.findings import Findings
from tasks.core.statistics.side_by_side import SideBySide

ENVIRONMENT = {"packages": {"torch": "2.13"}, "processor": "a processor", "precision": "float32"}


def findings(frame=None, controls=None, **study):
    frame = noisy() if frame is None else frame
    asked = Study(**{"initializers": THREE, **study})
    return Findings.of(asked, frame, checks.judge(asked.checks, frame), controls)


def told(found):
    return "\n".join(found.headline)


def test_headline_says_who_beats_whom():
    """It names the best of each backend and measure, what it beats, what is open, and what would settle it."""
    text = told(findings())
    assert "PyTorch, by test loss: " in text
    assert "it is better than zeros; nothing separates it from " in text
    assert " seeds would settle " in text
    assert "PyTorch against Keras, by test accuracy: " in text
    assert "All this is about iris: seeds of one dataset say nothing of others." in text
    assert "nan" not in text


def test_headline_says_why_backends_are_not_compared():
    """Recipes that differ are named, and no verdict between the backends is given."""
    text = told(findings(overrides={"keras": RecipeChanges(learning_rate=0.001)}))
    assert "No verdict between the backends, for they differ in learning_rate (pytorch 0.01, keras 0.001)." in text
    assert "PyTorch against Keras" not in text


def test_headline_begins_with_controls():
    """Controls that misbehaved come before all else, for nothing else holds then."""
    claim = Check(claim="zeros fail", measure="test_accuracy", where={"initializer": "zeros"}, at_most=-1)
    found = findings(controls=checks.judge([claim], noisy()))
    assert found.headline[0].startswith("INVALID, for controls misbehaved: zeros fail.")
    assert found.misbehaved == ["zeros fail"]


def test_headline_of_nothing_finished():
    """Where no initializer finished half of its cells it says so."""
    text = told(findings(noisy().assign(status="diverged")))
    assert "no initializer finished half of its cells" in text
    assert "Of 60 cells 60 diverged." in text
    assert "nan" not in text


def test_headline_of_one_that_is_left():
    """Where all initializers of a backend but one failed, that one is told, and that it is better."""
    frame = noisy()
    frame.loc[(frame["backend"] == "keras") & (frame["initializer"] != "he_normal"), "status"] = "failed"
    assert "Keras, by test loss: he_normal has the best mean" in told(findings(frame))


def test_headline_counts_many_levels():
    """Of more places than can be told one by one, it says how often each is best."""
    frame = pd.concat([noisy(seeds=3, depth=depth) for depth in range(2, 6)], ignore_index=True)
    text = told(findings(frame, factors={"network.depth": (2, 3, 4, 5)}, network={"width": 8, "depth": 2}))
    assert "PyTorch, best mean test accuracy over 4 levels: " in text
    assert "PyTorch against Keras, depth 5, by test loss: " in text


def test_headline_ranks_over_datasets():
    """Over several datasets it ranks, as Demšar does, and does not call them one."""
    names = ("iris", "wine", "digits")
    frame = pd.concat([noisy(seeds=3, dataset=name) for name in names], ignore_index=True)
    text = told(findings(frame, factors={"dataset": names}))
    assert "PyTorch, mean rank by test loss over 3 datasets: " in text
    assert " apart" in text
    assert "seeds of one dataset" not in text


def test_headline_tells_defaults_and_spread():
    """What native weights and each stream contribute is told where a study varies them."""
    native, shared = (noisy(weights=weights) for weights in ("native", "shared"))
    text = told(findings(pd.concat([native, shared], ignore_index=True), factors={"weights": ("native", "shared")}))
    assert "the part of it that native weights make (native less shared): significant under no initializer" in text
    split = {"everything": {}, "split": {"recipe.order_seed": 0, "network.weights_seed": 0}}
    frame = pd.concat([noisy(varied=name) for name in split], ignore_index=True)
    spread = told(findings(frame, factors={"varied": split}))
    assert "Standard deviation of test loss by source: " in spread
    assert "verdicts are about that one draw" in spread


@pytest.mark.parametrize("backends", [("pytorch",), ("pytorch", "keras")])
def test_methods_name_settings_margins_and_versions(backends):
    """The methods hold every setting, what is too small to matter, and what it ran on."""
    frame = noisy(backends=backends)
    text = findings(frame, backends=backends, margins={"test_loss": 0.07}).methods(ENVIRONMENT)
    assert "hidden 64-32" in text
    assert "learning_rate 0.01" in text
    assert "test loss, lower is better, margin 0.07 nat;" in text
    assert "test accuracy, higher is better, margin one test row;" in text
    assert "torch 2.13; a processor, float32." in text
    assert ("Keras optimizer" in text) == (len(backends) == 2)


def test_headline_places_what_was_reported():
    """A number published elsewhere is placed among the seeds, before all that is compared."""
    first = findings(reported={"pytorch": 0.9667}).headline[0]
    assert first.startswith("The reported 0.9667 is at percentile ")


def test_one_initializer():
    """A study of a single initializer has no pairs, and its findings are about the backends."""
    text = told(findings(noisy(initializers=("zeros",)), initializers=("zeros",)))
    assert "PyTorch, by test loss: zeros has the mean 1." in text
    assert "PyTorch against Keras, by test loss: " in text


def test_one_seed():
    """A single seed gives a table and words, and no verdict but that more seeds are needed."""
    found = findings(noisy(seeds=1))
    assert set(found.pairs["verdict"]) == {"undecided"}
    assert "too few seeds to tell how many" in told(found)
    assert np.isnan(found.comparison["test_loss_low"]).all()


def test_runs_side_by_side_say_whether_the_answer_changes():
    """A verdict that turned round changes the answer; the same runs do not, and what is equal is not tabulated."""
    first = findings()
    same = SideBySide(first, first, ENVIRONMENT, ENVIRONMENT).as_text()
    assert "The answer does not change" in same
    assert "nothing is to be compared between them" in same
    worse = noisy()
    worse.loc[worse["initializer"] == "he_normal", "test_loss"] += 3
    text = SideBySide(first, findings(worse), ENVIRONMENT, ENVIRONMENT | {"packages": {"torch": "2.14"}}).as_text()
    assert "The answer changes: " in text
    assert "pytorch · test loss: he_normal against zeros, better before, worse after" in text
    assert "Environment, packages.torch: 2.13 before, 2.14 after" in text
    assert "+3.0000" in text


def test_runs_side_by_side_do_not_hang_on_an_order():
    """The same cells in another order of initializers are paired all the same, and no verdict changes."""
    order = ["zeros", "he_normal", "glorot_uniform"]
    frame = noisy()
    places = frame["initializer"].map(order.index)
    turned = frame.assign(place=places).sort_values(["backend", "place", "seed"], ascending=[False, True, True])
    second = findings(turned.drop(columns="place").reset_index(drop=True), initializers=tuple(order))
    beside = SideBySide(findings(), second, ENVIRONMENT, ENVIRONMENT)
    assert beside.cells["equal"].all()
    lone = findings(noisy(initializers=("zeros",)), initializers=("zeros",))
    assert "cannot be compared" in SideBySide(findings(), lone, ENVIRONMENT, ENVIRONMENT).as_text()
    assert beside.changed == []
