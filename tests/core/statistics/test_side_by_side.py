from tasks.core.statistics.side_by_side import SideBySide
from tests.shared.reports import ENVIRONMENT, findings
from tests.shared.samples import noisy


def test_runs_side_by_side_say_whether_the_answer_changes():
    """A reversed verdict changes the answer; the same runs do not, and what is equal is not tabulated."""
    first = findings()
    same = SideBySide(first, first, ENVIRONMENT, ENVIRONMENT).as_text()
    assert "The answer does not change" in same
    assert "there is nothing to compare between them" in same
    worse = noisy()
    worse.loc[worse["initializer"] == "he_normal", "test_loss"] += 3
    text = SideBySide(first, findings(worse), ENVIRONMENT, ENVIRONMENT | {"packages": {"torch": "2.14"}}).as_text()
    assert "The answer changes: " in text
    assert "pytorch · test loss: he_normal against zeros, better before, worse after" in text
    assert "Environment, packages.torch: 2.13 before, 2.14 after" in text
    assert "×1" in text  # the loss of he_normal, which was about 0.2


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
