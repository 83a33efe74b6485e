"""Changes: the flags of a night, from what tonight's cells say that those of comparable nights did not.

Tonight is held against three references: the last night, the cell-wise mean of the recent nights, and the baseline. The
baseline is a night that stays until somebody accepts another one. Cells have the same seeds every night, so a cell of
tonight is paired with itself. A drift that is too slow for any two nights piles up against the baseline.

If nothing but rounding separates two nights, they are exchangeable, so the differences of their cells are symmetric
about zero. Where no bit differs, nothing is tested. All tests of a night, over its studies, references, groups and
measures, are adjusted together by Holm's method, so that at most ALPHA of quiet nights raise a flag.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.core.design.columns import FINISHED, Measure
from tasks.core.statistics import inference
from tasks.core.statistics.inference import Array, Differences
from tasks.core.statistics.verdicts import estimated
from tasks.core.watch import facts
from tasks.core.watch.paired import DIVERGED, Group, Reference, Tonight
from tasks.core.watch.watched import Against, Flag

ALPHA = 0.005  # the share of quiet nights that may raise a flag, over all studies of a night; speed has another half
EQUAL = 1e-12  # a smaller difference comes from averaging nights that are equal
NEAREST: tuple[Against, ...] = ("last night", "recent nights", "baseline")


def flags(night: Sequence[Tonight]) -> list[tuple[Flag, ...]]:
    """Return the flags of each study of a night, which must be all that are watched, because they share ALPHA.

    A test raises a flag if its p-value, after Holm's method, is below ALPHA and its change is not shown to be within
    the margin. Flags without a p-value are facts, which do not come from rounding (`facts.py`). A change that several
    references show is told once, against the nearest of them.
    """
    tests: list[list[Means | Counts]] = [
        [*(Means.of(each, one) for one in each.references), *(Counts.of(each, one) for one in each.single)]
        for each in night
    ]
    p = inference.holm(np.concatenate([np.empty(0), *(test.p for study in tests for test in study)]))
    found = []
    for tonight, study in zip(night, tests, strict=True):
        own = list(facts.facts(tonight))
        for test in study:
            adjusted, p = p[: len(test.p)], p[len(test.p) :]
            own += [test.flag(int(at), float(adjusted[at])) for at in np.flatnonzero((adjusted < ALPHA) & test.matters)]
        found.append((*_once(own), *facts.claims(tonight)))
    return found


def _once(flags: Sequence[Flag]) -> tuple[Flag, ...]:
    nearest: dict[object, Flag] = {}
    for flag in sorted(flags, key=lambda flag: NEAREST.index(flag.against)):
        nearest.setdefault((flag.level, flag.group, flag.measure, flag.direction, flag.p is None), flag)
    return tuple(nearest.values())


@dataclass(frozen=True, eq=False)
class Means:
    """Whether the mean of a measure has changed in a group of paired cells, by Student's t; an entry is a test.

    differences: tonight's cells less the reference's, on the scale of the measure, NaN where one has no number.
    """

    reference: Reference
    groups: list[Group]
    measures: list[Measure]
    differences: list[Array]

    @classmethod
    def of(cls, tonight: Tonight, reference: Reference) -> "Means":
        """Return a test of each group and measure in which some cell differs from the reference."""
        differences = {name: own - _mean(reference, name) for name, own in tonight.cells.scaled.items()}
        apart = {name: np.where(np.abs(each) < EQUAL, 0.0, each) for name, each in differences.items()}
        found = [
            (group, measure, apart[measure.name][group.places])
            for level in tonight.levels
            for measure in level.measures
            for group in level.groups
            if np.nan_to_num(apart[measure.name][group.places]).any()
        ]
        groups, by, own = zip(*found, strict=True) if found else ((), (), ())
        return cls(reference, list(groups), list(by), list(own))

    @cached_property
    def paired(self) -> Differences:
        padded = np.full((len(self.differences), max(map(len, self.differences), default=0)), np.nan)
        for row, own in zip(padded, self.differences, strict=True):
            row[: len(own)] = own
        return Differences.of(padded, np.array([measure.step for measure in self.measures]))

    @cached_property
    def p(self) -> Array:
        """The p-value of no change of each test."""
        return self.paired.p_zero()

    @property
    def matters(self) -> NDArray[np.bool_]:
        """Which changes are not shown to be smaller than the margin of their measure."""
        margins = np.array([float(each.scaled_margin(each.margin or 0.0)) for each in self.measures])
        return np.asarray(self.paired.p_beyond(margins) >= inference.ALPHA)

    def flag(self, at: int, p: float) -> Flag:
        """Return the flag of a test, given its p-value after Holm."""
        measure, own, paired = self.measures[at], self.differences[at], self.paired
        size, low, high = (float(measure.unscaled(each[at])) for each in (paired.mean, paired.low, paired.high))
        told = estimated(pd.Series({"scale": measure.scale, "estimate": size, "low": low, "high": high}))
        better, changed = (own > 0) == measure.higher_is_better, np.nan_to_num(own) != 0
        counts = f"{(changed & better).sum()} better and {(changed & ~better).sum()} worse"
        return Flag(
            level="results",
            group=self.groups[at].name,
            measure=measure.name,
            direction="better" if (paired.mean[at] > 0) == measure.higher_is_better else "worse",
            against=self.reference.against,
            words=f"{measure.centre_title} {told}; of {paired.n[at]} cells {counts}",
            size=size,
            low=low,
            high=high,
            p=p,
            nights=self.reference.nights,
        )


def _mean(reference: Reference, measure: str) -> Array:
    return inference.mean(np.stack([each.scaled[measure] for each in reference.those], axis=-1))


@dataclass(frozen=True, eq=False)
class Counts:
    """Whether more or fewer cells of a group are healthy, or diverged, than before; an entry is a test.

    McNemar's exact test: a sign test of the cells that have come to the state, and of those that have left it. Without
    any there is no test.
    """

    reference: Reference
    groups: list[Group]
    states: list[str]
    come: NDArray[np.int64]
    left: NDArray[np.int64]

    @classmethod
    def of(cls, tonight: Tonight, reference: Reference) -> "Counts":
        """Return a test of each group and state that some cell has come to or left."""
        found = []
        before, now = reference.those[0].state, tonight.cells.state
        known = (before != "") & (now != "")
        for state in (facts.HEALTHY, DIVERGED):
            come, left = known & (now == state) & (before != state), known & (now != state) & (before == state)
            for group in (group for level in tonight.levels for group in level.groups):
                counts = [int(each[group.places].sum()) for each in (come, left)]
                found += [(group, state, *counts)] if any(counts) else []
        groups, by, gained, lost = zip(*found, strict=True) if found else ((), (), (), ())
        return cls(reference, list(groups), list(by), np.array(gained, np.int64), np.array(lost, np.int64))

    @cached_property
    def p(self) -> Array:
        """The p-value of no change of each test."""
        return inference.sign_test(self.come, self.left)

    @property
    def matters(self) -> NDArray[np.bool_]:
        """Every change of a state matters."""
        return np.ones(len(self.groups), np.bool_)

    def flag(self, at: int, p: float) -> Flag:
        """Return the flag of a test, given its p-value after Holm."""
        state, come, left = self.states[at], self.come[at], self.left[at]
        return Flag(
            level="health",
            group=self.groups[at].name,
            measure=FINISHED.name if state == DIVERGED else "",
            direction="better" if (come > left) == (state == facts.HEALTHY) else "worse",
            against=self.reference.against,
            words=f"{come} cells are {state} that were not, and {left} cells are not that were",
            p=p,
            nights=self.reference.nights,
        )
