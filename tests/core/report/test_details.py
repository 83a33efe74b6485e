import pandas as pd

from tasks.core.design.settings import RecipeChanges
from tasks.core.design.study import Study
from tasks.core.report.details import again, details, placed
from tests.shared.reports import findings
from tests.shared.samples import cells, noisy


def told(found):
    return "\n".join(details(found))


def test_details_say_who_beats_whom():
    """It names the best of each backend and measure, what it beats, what is open, and what would settle it."""
    text = told(findings())
    assert "PyTorch, by test loss: " in text
    assert "it is better than zeros; too few seeds to tell it from " in text
    assert " would decide" in text
    assert "PyTorch against Keras, by test accuracy: " in text
    assert "All this is about iris: seeds of one dataset say nothing of others." in text
    assert "nan" not in text


def test_details_says_why_backends_are_not_compared():
    """Recipes that differ are named, and no verdict between the backends is given."""
    text = told(findings(overrides={"keras": RecipeChanges(learning_rate=0.001)}))
    assert "No verdict between the backends, because they differ in learning_rate (pytorch 0.01, keras 0.001)." in text
    assert "PyTorch against Keras" not in text


def test_details_of_nothing_finished():
    """Where no initializer finished half of its cells it says so."""
    text = told(findings(noisy().assign(status="diverged")))
    assert "no initializer finished half of its cells" in text
    assert "Of 60 cells 60 diverged." in text
    assert "nan" not in text


def test_details_of_one_that_is_left():
    """Where all initializers of a backend but one failed, that one is told, and that it is better."""
    frame = noisy()
    frame.loc[(frame["backend"] == "keras") & (frame["initializer"] != "he_normal"), "status"] = "failed"
    assert "Keras, by test loss: he_normal has the best geometric mean" in told(findings(frame))


def test_details_counts_many_levels():
    """Of more places than can be told one by one, it says how often each is best."""
    frame = pd.concat([noisy(seeds=3, depth=depth) for depth in range(2, 6)], ignore_index=True)
    text = told(findings(frame, factors={"network.depth": (2, 3, 4, 5)}, network={"width": 8, "depth": 2}))
    assert "PyTorch, best mean test accuracy over 4 levels: " in text
    assert "PyTorch against Keras, depth 5, by test loss: " in text


def test_details_ranks_over_datasets():
    """Over several datasets it ranks, says how many it takes to tell any apart, and does not call them one."""
    names = ("iris", "wine", "digits")
    frame = pd.concat([noisy(seeds=3, dataset=name) for name in names], ignore_index=True)
    text = told(findings(frame, factors={"dataset": names}))
    assert "PyTorch, mean rank by test loss over 3 datasets: " in text
    assert "none can be told apart, for that takes 9 datasets or more" in text
    assert "seeds of one dataset" not in text


def test_details_tells_defaults_and_spread():
    """What native weights and each stream contribute is told where a study varies them."""
    native, shared = (noisy(weights=weights) for weights in ("native", "shared"))
    text = told(findings(pd.concat([native, shared], ignore_index=True), factors={"weights": ("native", "shared")}))
    assert "the difference that native weights make is significant under no initializer" in text
    split = {"nothing": {}, "split": {"split.seed": "redrawn"}, "held": {"split.seed": 0}}
    frame = pd.concat([noisy(redrawn=name) for name in split], ignore_index=True)
    spread = told(findings(frame, factors={"redrawn": split}))
    assert "Standard deviation of test loss by source: " in spread
    assert "verdicts are about that one draw" in spread


def test_one_initializer():
    """A study of a single initializer has no pairs, and its findings are about the backends."""
    text = told(findings(noisy(initializers=("zeros",)), initializers=("zeros",)))
    assert "PyTorch, by test loss: zeros has the mean 1." in text
    assert "PyTorch against Keras, by test loss: " in text


def test_notes_place_reported_numbers():
    """A number reported elsewhere is placed in the distribution over seeds."""
    study = Study(reported={"pytorch": 0.9667, "keras": 0.8}, backends=("pytorch",), initializers=("he_normal",))
    text = " ".join(placed(study, cells()))
    assert "reported 0.9667 is at percentile 67 of pytorch · he_normal over 3 seeds" in text
    assert "keras ·" not in text


def test_what_never_finishes_is_told():
    """An initializer that finishes in no seed, where others always do, is named, with the number of places."""
    frame = noisy(seeds=3)
    frame.loc[frame["initializer"] == "zeros", "status"] = "diverged"
    text = told(findings(frame, seeds=3))
    assert "PyTorch, cells that never finish, where others always do: zeros." in text
    assert "zeros never finishes" in text


def test_a_later_look_is_told():
    """A later look says which look it is and what that costs; the first one says nothing."""
    assert list(again(1)) == []
    (line,) = again(3)
    assert line.startswith("This is look 3 at this question")
    assert "multiplied by 30" in line
