import numpy as np
import pandas as pd
import pytest

from tasks.core.design.settings import Check, RecipeChanges
from tasks.core.report.answer import answer
from tasks.core.statistics import checks
from tests.shared.reports import findings
from tests.shared.samples import THREE, noisy
from tests.shared.tuned import tuned_findings

LEVELS = {"factors": {"recipe.learning_rate": (0.001, 0.01, 0.1)}}


A_ROW = {"test_accuracy": 1.001 / 30}
TWO = {"factors": {"recipe.learning_rate": (0.001, 0.01)}}


def told(frame=None, **study):
    """Return the answer for PyTorch, without the name, and that between the backends, if any."""
    found = findings(frame, **study)
    first, *others = answer(found)
    assert first.startswith("PyTorch: ")
    assert "nan" not in " ".join([first, *others])
    return first.removeprefix("PyTorch: "), others[-1]


def at_rates(*frames):
    """Return cells at as many learning rates as there are frames."""
    rates = (0.001, 0.01, 0.1)
    renamed = [frame.assign(learning_rate=rate) for rate, frame in zip(rates, frames, strict=False)]
    frame = pd.concat(renamed, ignore_index=True)
    names = list(frame.columns)
    names.insert(names.index("initializer"), names.pop())
    return frame[names]


def swapped(frame):
    """Return cells in which the last two initializers change places."""
    turned = {"he_normal": "zeros", "zeros": "he_normal"}
    return frame.assign(initializer=frame["initializer"].replace(turned))


def test_one_answer_a_backend():
    """Each backend has its answer in plain words, and one line says whether the backends differ."""
    frame = noisy()
    lower = (frame["backend"] == "keras") & (frame["initializer"] == "glorot_uniform")
    frame.loc[lower, "test_loss"] = 0.6 * frame.loc[lower, "test_loss"]
    pytorch, keras, both = answer(findings(frame, margins=A_ROW))
    assert pytorch.startswith("PyTorch: he_normal or glorot_uniform. On iris, at this recipe, they are equivalent by ")
    assert pytorch.endswith("Avoid zeros.")
    assert "glorot_uniform has the lowest test loss, 49 % below he_normal." in keras
    assert both == ("PyTorch or Keras: equivalent by test accuracy; Keras is better under glorot_uniform by test loss.")


def test_many_that_are_alike_are_counted():
    """Where all but a few are good they are counted, and the few are named."""
    names = (*THREE[:2], "lecun_normal", "orthogonal", "glorot_normal", "he_uniform", "zeros")
    text, _ = told(noisy(20, names), initializers=names, seeds=20, margins=A_ROW)
    assert text.startswith("any of the 6. ")
    assert "Avoid zeros." in text


def test_too_few_seeds():
    """With few seeds it says so; what is far worse is said to look worse, and is not called as good."""
    frame = noisy(seeds=2)
    frame["test_accuracy"] += (frame["initializer"] == "zeros") * (0.4 * frame["seed"] - 0.2)
    text, between = told(frame, seeds=2, margins=A_ROW)
    assert text.startswith("2 seeds are too few to tell. So far glorot_uniform has the best test accuracy, 0.983.")
    assert "zeros looks worse by 0.483." in text
    assert "nothing separates" not in text
    assert "too few seeds to tell by test accuracy" in between
    assert told(noisy(seeds=1), seeds=1)[0].startswith("1 seed is too few to tell.")


def test_nothing_trains():
    """Where all diverge no initializer is named; where one does, it is to be avoided."""
    text, _ = told(noisy().assign(status="diverged"))
    assert text == "no initializer trains here. Of each, more than half of the cells diverged."
    frame = noisy()
    frame.loc[frame["initializer"] == "he_normal", "status"] = "diverged"
    text, _ = told(frame)
    assert text.startswith("glorot_uniform. ")
    assert text.endswith("Avoid he_normal: all cells diverged.")


def test_one_that_beats_all():
    """One that is better than every other one is the answer, without a list of those it beats."""
    frame = noisy()
    frame.loc[frame["initializer"] == "glorot_uniform", ["test_accuracy"]] -= 0.3
    text, _ = told(frame)
    assert text == "he_normal. On iris, at this recipe, its test accuracy is better than that of every other one."


def test_one_initializer():
    """A study of one initializer has its number."""
    text, between = told(noisy(initializers=("zeros",)), initializers=("zeros",))
    assert text.startswith("zeros, the only initializer here, has a test accuracy of 0.453 [")
    assert between == "PyTorch or Keras: equivalent by test accuracy and test loss."


def test_equivalent_by_both_measures():
    """Where everything is shown to be alike it says that they are equivalent, by both measures."""
    frame = noisy()
    frame[["test_accuracy", "test_loss"]] = [0.9, 0.2]
    text, between = told(frame)
    assert text == (
        "glorot_uniform, he_normal or zeros. On iris, at this recipe, they are equivalent by test accuracy. "
        "By test loss they are equivalent, too."
    )
    assert between == "PyTorch or Keras: equivalent by test accuracy and test loss."


def test_levels_are_summed_up():
    """Over levels it counts where initializers are worse, and names those that never are."""
    text, _ = told(at_rates(*[noisy()] * 3), **LEVELS)
    assert text.startswith(
        "he_normal or glorot_uniform. In none of the 3 values of learning_rate is one of them shown to "
    )
    assert "Avoid zeros: worse, or untrained, in all." in text
    assert "Best by geometric mean test loss most often: he_normal, in 3 of the 3 values of learning_rate." in text


def test_order_that_turns():
    """Where the order turns with a level it says which pair turns, and how often."""
    text, _ = told(at_rates(noisy(), swapped(noisy()), swapped(noisy())), **LEVELS)
    assert text.startswith("glorot_uniform. In none of")
    assert "The order turns: zeros is better than he_normal in 2, and worse in 1." in text
    assert "Worse, or untrained, in some: he_normal in 2 and zeros in 1." in text


def test_levels_without_an_answer():
    """Levels in which nothing is decided, or nothing trains, are counted or said."""
    few = noisy(seeds=1)
    assert told(at_rates(few, few, few), seeds=1, **LEVELS)[0] == (
        "1 seed is too few to tell anything by test accuracy in any of the 3 values of learning_rate."
    )
    none = at_rates(*[noisy().assign(status="diverged")] * 3)
    assert told(none, **LEVELS)[0].startswith("no initializer trains in any of the 3 values of learning_rate.")
    alone = at_rates(*[noisy(initializers=("zeros",))] * 3)
    text, _ = told(alone, initializers=("zeros",), **LEVELS)
    assert text == "zeros, the only initializer here, trains in 3 of the 3 values of learning_rate."
    some = at_rates(noisy(), noisy(), noisy().assign(status="diverged"))
    assert told(some, **LEVELS)[0].startswith(
        "it depends. he_normal does best, and still is worse, or does not train, in 1"
    )


def test_what_only_looks_worse_in_a_level():
    """What is worse in a level by more than the margin, without a verdict, is not passed over in silence."""
    frame = noisy(seeds=4)
    unsure = (frame["initializer"] == "he_normal") & (frame["seed"] == 0)
    text, _ = told(
        at_rates(noisy(seeds=4), frame.assign(test_accuracy=frame["test_accuracy"] - 0.5 * unsure)),
        seeds=4,
        margins=A_ROW,
        **TWO,
    )
    assert "Looking worse in some, where 4 seeds are too few to tell: he_normal in 1." in text


def test_controls_come_first():
    """Controls that misbehaved come before all else, because nothing else holds then."""
    claim = Check(claim="zeros fail", measure="test_accuracy", where={"initializer": "zeros"}, at_most=-1)
    found = findings(controls=checks.judge([claim], noisy()))
    assert answer(found)[0].startswith("INVALID, because controls misbehaved: zeros fail.")
    assert found.misbehaved == ["zeros fail"]


def test_what_was_reported_comes_first():
    """A number published elsewhere is what its study is about."""
    assert answer(findings(reported={"pytorch": 0.9667}))[0].startswith("The reported 0.9667 is at percentile ")


def test_backends_that_are_alike_under_some():
    """Under which initializers the backends are equivalent is said, and that nothing is known under the others."""
    _, between = told()
    assert between == (
        "PyTorch or Keras: too few seeds to tell by test accuracy; equivalent under zeros, too few seeds to tell under "
        "glorot_uniform and he_normal by test loss."
    )


def test_backends_that_are_not_compared():
    """Backends that are trained differently are not compared, and it says why."""
    _, between = told(overrides={"keras": RecipeChanges(learning_rate=0.001)})
    assert between == "PyTorch or Keras: not compared where they differ in learning_rate (pytorch 0.01, keras 0.001)."


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_best_is_not_one_that_loses_by_its_holes(share):
    """An initializer whose finished cells have the best mean is not recommended if it is worse for the others."""
    frame = noisy(seeds=30)
    chosen = frame["initializer"] == "he_normal"
    frame.loc[chosen, "test_accuracy"] = 1.0
    frame.loc[chosen & (frame["seed"] >= 30 * share), "status"] = "diverged"
    frame.loc[~chosen & np.isin(frame["seed"], range(18)), "test_accuracy"] = 1.0
    frame.loc[(frame["initializer"] == "zeros"), "test_accuracy"] = 0.3
    text, _ = told(frame, seeds=30)
    assert text.startswith("glorot_uniform. ")


def test_the_answer_says_under_what_settings():
    """The answer holds at one recipe, or for each initializer at its best, and says which of these."""
    pytorch, keras, _ = answer(tuned_findings())
    assert pytorch.startswith("PyTorch, each at its best learning rate: ")
    assert keras.startswith("Keras, each at its best learning rate: ")
    assert "at this recipe" not in pytorch + keras
    two = pd.concat([noisy(dataset=name) for name in ("iris", "wine")], ignore_index=True)
    first, *_ = answer(findings(two, factors={"dataset": ("iris", "wine")}))
    assert first.startswith("PyTorch, at one recipe: ")
