"""What is told without a test, because rounding does not make it."""

import numpy as np
import pytest

from tasks.core.design.settings import Check
from tasks.core.design.study import Study
from tasks.core.watch.changes import flags
from tasks.core.watch.paired import Cells, Tonight
from tests.shared.samples import THREE, noisy

STUDY = Study(initializers=THREE)


def he(cells, count=10, **values):
    """Return cells of which the first ones of he_normal in PyTorch have other values."""
    meant = cells.index[(cells["backend"] == "pytorch") & (cells["initializer"] == "he_normal")][:count]
    changed = cells.copy()
    for name, value in values.items():
        changed.loc[meant, name] = value
    return changed


def told(cells, before, study=STUDY):
    return [
        (flag.level, flag.group, flag.direction, flag.words)
        for flag in flags([Tonight(study, Cells(cells), [Cells(before)])])[0]
        if flag.p is None
    ]


@pytest.mark.parametrize(("count", "news"), [(10, True), (5, True), (4, False)])
def test_a_group_turns_if_half_of_its_cells_do(count, news):
    """From half of its cells on a group has turned from healthy to dead; less than half are no news."""
    cells = noisy()
    dead = he(cells, count, health="dead")
    words = f"{count} of 10 cells were healthy and are dead"
    assert told(dead, cells) == ([("health", "pytorch · he_normal", "worse", words)] if news else [])
    assert [each[2] for each in told(cells, dead)] == (["better"] if news else [])


def test_a_group_that_turns_both_ways_is_on_the_brink():
    """Where another cell went the other way, the group has not turned."""
    cells = noisy()
    one_dead = cells.copy()
    last = he(cells, 10, reason="he").query("reason == 'he'").index[-1]
    one_dead.loc[last, "health"] = "dead"
    assert told(he(cells, 9, health="dead"), one_dead) == []


def test_two_cells_are_too_few_to_turn():
    """A group of two cells that both die is not told as a fact."""
    cells = noisy(seeds=2)
    assert told(he(cells, 2, health="dead"), cells) == []


def test_failures_that_appear_or_go_are_told():
    """One cell that fails is told with its reason, and so is one that fails no longer."""
    cells = noisy()
    gone = dict.fromkeys(("test_loss", "test_accuracy", "brier_score", "loss_area", "epochs_to_target"), np.nan)
    failed = he(cells, 1, status="failed", health="", reason="MemoryError: no memory", **gone)
    words = "1 of 10 cells fail that ran before: MemoryError: no memory"
    assert told(failed, cells) == [("health", "pytorch · he_normal", "worse", words)]
    assert told(cells, failed) == [("health", "pytorch · he_normal", "better", "1 of 10 cells run that failed before")]
    assert told(failed, failed) == []


@pytest.mark.parametrize(("apart", "news"), [(0.02, True), (0.001, False)])
def test_a_start_that_differs_by_more_than_rounding_is_told(apart, news):
    """Rounding cannot move the loss before training by 2 %: weights, rows or network changed. 0.1 % may be rounding."""
    cells = noisy().assign(first_loss=1.1)
    found = told(he(cells, first_loss=1.1 * (1 + apart)), cells)
    assert [each[:3] for each in found] == ([("results", "pytorch · he_normal", "changed")] if news else [])
    assert told(he(cells, 5, first_loss=1.2), cells) == []  # half of the cells are not most


def test_cells_that_explode_do_not_tell_of_their_start():
    """In a network that explodes rounding may grow from layer to layer, so its first loss says nothing."""
    cells = he(noisy().assign(first_loss=1.1), health="exploding")
    assert told(he(cells, first_loss=2.0), cells) == []


def test_a_claim_that_no_longer_holds_is_told():
    """A claim is told in the night in which it turns, and of the baseline while it stays so; on the brink never."""
    claim = Check(claim="He learns", measure="test_accuracy", where={"initializer": "he_normal"}, at_least=0.9)
    study = Study(initializers=THREE, checks=(claim,))
    held = noisy()
    lost = held.assign(test_accuracy=held["test_accuracy"].where(held["initializer"] != "he_normal", 0.5))

    def said(cells, *recent, baseline=None):
        known = None if baseline is None else Cells(baseline)
        found = flags([Tonight(study, Cells(cells), [*map(Cells, recent)], known, age=9)])[0]
        return [(flag.group, flag.direction, flag.against, flag.nights) for flag in found if flag.level == "checks"]

    both = ("pytorch", "keras")
    assert said(lost, held, held) == [(backend, "worse", "last night", 1) for backend in both]
    assert said(held, lost, lost) == [(backend, "better", "last night", 1) for backend in both]
    assert said(lost, lost, lost, baseline=held) == [(backend, "worse", "baseline", 9) for backend in both]
    assert said(lost, held, lost) == said(held, held) == said(lost) == []
