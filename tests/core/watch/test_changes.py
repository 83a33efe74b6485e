"""What a night flags: nothing that rounding makes, and everything that is significant and beyond its margin."""

import numpy as np
import pandas as pd
import pytest

from tasks.core.design.study import Study
from tasks.core.watch import changes, judge
from tasks.core.watch.paired import RECENT, Cells, Tonight
from tests.benchmarks.watch.quiet import NIGHTS, drawn, ours
from tests.shared.samples import THREE, noisy
from tests.shared.tuned import LOSSES, tuning_cells
from tests.shared.tuned import STUDY as TUNED

STUDY = Study(initializers=THREE)
PYTORCH = "pytorch"


def times(cells, factor, backend=PYTORCH, measure="test_loss"):
    """Return cells in which a measure of a backend is larger by a factor."""
    return cells.assign(**{measure: cells[measure].where(cells["backend"] != backend, cells[measure] * factor)})


def tonight(cells, *recent, study=STUDY, baseline=None, age=1):
    return Tonight(study, Cells(cells), [*map(Cells, recent)], None if baseline is None else Cells(baseline), age)


def flagged(cells, *recent, **others):
    return changes.flags([tonight(cells, *recent, **others)])[0]


def test_quiet_nights_of_real_cells_raise_nothing():
    """Nights of real cells that differ in rounding alone, the night's way or each cell's own, raise no flag."""
    rng = np.random.default_rng(0)
    assert not any(ours(drawn(rng, NIGHTS // 2, cellwise=False)))
    assert not any(ours(drawn(rng, NIGHTS // 4, cellwise=True)))


def test_equal_nights_are_not_tested():
    """Cells of which no bit differs make no test, also where the reference is a mean of several nights."""
    cells = noisy()
    night = tonight(cells, *[cells] * 3, baseline=cells, age=9)
    assert [len(reference.those) for reference in night.references] == [1, 3, 1]
    assert all(len(changes.Means.of(night, each).p) == 0 for each in night.references)
    assert changes.flags([night]) == [()]


def test_a_change_of_a_backend_is_told_with_its_size():
    """A loss that is 20 % higher in one backend is worse by a factor of 1.2, in this backend alone."""
    cells = noisy()
    first, *others = flagged(times(cells, 1.2), cells)
    assert (first.group, first.measure, first.direction) == ("pytorch · all initializers", "test_loss", "worse")
    assert first.size == pytest.approx(1.2)
    assert first.low <= first.size <= first.high
    assert (first.level, first.against, first.nights) == ("results", "last night", 1)
    assert first.words == "geometric mean test loss +20 % [+20, +20]; of 30 cells 0 better and 30 worse"
    assert {flag.group for flag in others} == {f"pytorch · {name}" for name in THREE}


def test_better_is_told_too():
    """A lower loss and a higher accuracy are better."""
    cells = noisy()
    assert {flag.direction for flag in flagged(times(cells, 0.7), cells)} == {"better"}
    raised = cells.assign(test_accuracy=(cells["test_accuracy"] * 30 + 3) / 30)
    assert {flag.direction for flag in flagged(raised, cells)} == {"better"}


def test_a_change_within_the_margin_is_not_told():
    """A loss that is certainly 5 % higher is no news under a margin of 10 %, and is under one of 2 %."""
    cells = noisy()
    assert flagged(times(cells, 1.05), cells) == ()
    assert flagged(times(cells, 1.05), cells, study=Study(initializers=THREE, margins={"test_loss": 0.02}))


def test_one_cell_is_not_news():
    """A single cell that goes astray, and whose health changes, raises nothing."""
    cells = noisy()
    astray = cells.copy()
    astray.loc[0, ["test_loss", "test_accuracy", "health"]] = [9.0, 0.3, "dead"]
    assert flagged(astray, cells) == ()


def test_the_studies_of_a_night_share_the_errors():
    """Evidence that is enough for the only study of a night is not enough among five."""
    cells = noisy(initializers=("he_normal",), backends=(PYTORCH,))
    noise = np.random.default_rng(0).permutation(np.linspace(-0.04, 0.4, len(cells)))
    night = tonight(cells.assign(test_loss=cells["test_loss"] * np.exp(noise)), cells)
    (p,) = changes.Means.of(night, night.references[0]).p
    assert changes.ALPHA / 5 < p < changes.ALPHA
    assert len(changes.flags([night])[0]) == 1
    assert changes.flags([night] * 5) == [()] * 5


def test_a_slow_drift_is_found_by_the_baseline_alone():
    """A loss that grows by 0.5 % a night is never apart from recent nights, and in the end is from the baseline."""
    cells = noisy()
    nights = [times(cells, 1.005**at) for at in range(31)]
    recent = nights[-2 : -2 - RECENT : -1]
    assert flagged(nights[-1], *recent) == ()
    first, *_ = flagged(nights[-1], *recent, baseline=nights[0], age=30)
    assert (first.against, first.nights, first.direction) == ("baseline", 30, "worse")
    assert first.size == pytest.approx(1.005**30)


def test_a_change_is_told_once_against_the_nearest_night():
    """What the last night, the recent nights and the baseline all show is told against the last night."""
    cells = noisy()
    found = flagged(times(cells, 1.3), *[cells] * RECENT, baseline=cells, age=20)
    assert {flag.against for flag in found} == {"last night"}
    assert len({(flag.group, flag.measure) for flag in found}) == len(found)


def test_cells_are_paired_whatever_their_order():
    """Rows in another order are the same night."""
    cells = noisy()
    assert flagged(cells.sample(frac=1, random_state=0), cells) == ()


def test_more_cells_that_diverge_are_told():
    """Where 20 of 30 cells of a backend diverge that finished, a sign test tells it; a hole has no loss."""
    cells = noisy()
    gone = (cells["backend"] == PYTORCH) & (cells["initializer"] != "zeros")
    diverged = cells.assign(
        status=cells["status"].mask(gone, "diverged"),
        health=cells["health"].mask(gone, "exploding"),
        **{name: cells[name].mask(gone) for name in ("test_loss", "test_accuracy", "loss_area", "brier_score")},
    )
    found = [flag for flag in flagged(diverged, cells) if flag.p is not None and flag.group.endswith("initializers")]
    assert {(flag.level, flag.group, flag.measure, flag.direction) for flag in found} == {
        ("health", "pytorch · all initializers", "finished", "worse"),
        ("health", "pytorch · all initializers", "", "worse"),
    }
    assert {flag.direction for flag in flagged(cells, diverged)} == {"better"}


def test_levels_are_judged_by_themselves():
    """A change at one level of a factor is told of its groups, by name."""
    cells = noisy(depth=2)
    other = cells.assign(depth=4)
    both = [*(cells, other), *(cells, times(other, 1.3))]
    before, after = (pd.concat(each, ignore_index=True) for each in (both[:2], both[2:]))
    groups = {flag.group for flag in flagged(after, before)}
    assert "pytorch · depth 4 · all initializers" in groups
    assert all("depth 4" in group for group in groups)


def test_another_pick_is_told_and_pairs_nothing():
    """Cells of a group that has picked another value are not held against those before; the pick is told."""
    cells = noisy(3, TUNED.initializers)
    other = tuning_cells({**LOSSES, "he_normal": {0.001: 0.1, 0.01: 0.2, 0.1: 0.9}})
    before, now = Cells.of(TUNED, cells, tuning_cells()), Cells.of(TUNED, times(cells, 3, "keras"), other)
    worse = Cells.of(TUNED, times(cells, 3, "keras"), tuning_cells())
    assert [flag.group for flag in changes.flags([Tonight(TUNED, worse, [before])])[0]]
    repicked = Tonight(TUNED, now, [before])
    groups = {flag.group for flag in changes.flags([repicked])[0]}
    assert "keras · zeros" in groups
    assert not any("he_normal" in group for group in groups)
    assert repicked.repicked == [
        "Picked learning rate, pytorch · he_normal: 0.01 before, 0.001 after",
        "Picked learning rate, keras · he_normal: 0.01 before, 0.001 after",
    ]
    picking = Tonight(TUNED.tuning(), Cells(times(tuning_cells(), 3)), [Cells(tuning_cells())])
    (watched,) = judge.watched([judge.Held("iris", tonight=(repicked, picking))])
    assert (list(watched.picked), watched.differing) == (repicked.repicked, ())
    assert any(flag.group.startswith("pytorch · while picking · learning_rate 0.01 ") for flag in watched.flags)
