"""Facts: changes that need no test, because rounding does not make them.

They are cells that fail, a group whose cells change their state together, signals before training that differ by more
than rounding, and claims of a study that held on every known night and do not hold tonight.
"""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pandas as pd

from tasks.core.design.columns import FINISHED
from tasks.core.statistics import checks
from tasks.core.watch.paired import DIVERGED, RECENT, Group, Reference, Tonight
from tasks.core.watch.watched import Direction, Flag
from tasks.core.watch.watched import Level as Kind

HEALTHY, FAILED = "healthy", "failed"
LEAST = 3  # nights, tonight among them, of which a claim must have held or failed on all but the last
TOGETHER = 3  # so many cells, and half of the group, must change their state alike
STARTING = ("first_loss", "jacobian_mean_square")  # signals before training: rounding has no steps over which to grow
ROUNDING = 0.01  # relative; what a signal before training differs by beyond this is not rounding


def facts(tonight: Tonight) -> Iterator[Flag]:
    """Yield the facts about a study of a night, against each reference that is one night."""
    groups = [group for level in tonight.levels for group in level.groups if not group.whole]
    for reference in tonight.single:
        for group in groups:
            yield from _failures(tonight, reference, group)
            yield from _turned(tonight, reference, group)
            yield from _started(tonight, reference, group)


def _failures(tonight: Tonight, reference: Reference, group: Group) -> Iterator[Flag]:
    """Yield a flag if cells fail that ran before, or the other way round."""
    before, now = (each.status[group.places] for each in (reference.those[0], tonight.cells))
    newly, no_longer = (now == FAILED) & ~pd.isna(before) & (before != FAILED), (before == FAILED) & (now != FAILED)
    if newly.any():
        reason = tonight.cells.rows["reason"].iloc[group.places[newly][0]]
        words = f"{newly.sum()} of {len(now)} cells fail that ran before: {reason}"
        yield _flag(reference, group, FINISHED.name, "worse", words)
    if no_longer.any():
        words = f"{no_longer.sum()} of {len(now)} cells run that failed before"
        yield _flag(reference, group, FINISHED.name, "better", words)


def _turned(tonight: Tonight, reference: Reference, group: Group) -> Iterator[Flag]:
    """Yield a flag if half of the group, and TOGETHER cells, went from one state to another one, and none came back."""
    before, now = (each.state[group.places] for each in (reference.those[0], tonight.cells))
    pairs = Counter((was, is_) for was, is_ in zip(before, now, strict=True) if was and is_)
    moved = Counter({pair: n for pair, n in pairs.items() if pair[0] != pair[1]})
    for (was, is_), n in moved.most_common(1):
        if n >= max(TOGETHER, pairs.total() / 2) and not pairs[is_, was]:
            good, bad = is_ == HEALTHY or was == DIVERGED, was == HEALTHY or is_ == DIVERGED
            direction: Direction = "better" if good else "worse" if bad else "changed"
            yield _flag(reference, group, "", direction, f"{n} of {pairs.total()} cells were {was} and are {is_}")


def _started(tonight: Tonight, reference: Reference, group: Group) -> Iterator[Flag]:
    """Yield a flag if before training most cells of the group differ by more than rounding.

    Then their initial weights, their rows or their network changed. In a cell that explodes rounding may grow from
    layer to layer, so such cells do not count.
    """
    nights = tonight.cells, reference.those[0]
    places = group.places[np.all([night.state[group.places] != "exploding" for night in nights], axis=0)]
    for name in STARTING:
        one, other = (night.rows[name].to_numpy(np.float64)[places] for night in nights)
        known = (one > 0) & (other > 0) & np.isfinite(one) & np.isfinite(other)
        change = np.log(one[known] / other[known])
        apart = int((np.abs(change) > np.log1p(ROUNDING)).sum())
        if 2 * apart > len(change):
            by = np.expm1(np.median(np.abs(change)))
            words = f"before training {name} differs by more than rounding in {apart} of {len(change)} cells"
            yield _flag(reference, group, name, "changed", f"{words}, by {by:.1%} in the median one")
            return


def _flag(reference: Reference, group: Group, measure: str, direction: Direction, words: str) -> Flag:
    level: Kind = "results" if measure in STARTING else "health"
    return Flag(level, group.name, measure, direction, reference.against, words, nights=reference.nights)


def claims(tonight: Tonight) -> Iterator[Flag]:
    """Yield a flag for each claim of the study that held on all nights up to some night, and on none from then on.

    The other way round is told, too. A claim that went to and fro is on the brink, and tells nothing.
    """
    first = [] if tonight.baseline is None else [tonight.baseline]
    nights = [*first, *reversed(tonight.recent[:RECENT]), tonight.cells]
    if len(nights) < LEAST or not tonight.study.checks:
        return
    judged = [checks.judge(tonight.study.checks, each.rows) for each in nights]
    held = np.array([(rows["result"] == checks.HELD).to_numpy() for rows in judged])
    turned = held[1:] != held[:-1]
    for at in np.flatnonzero(turned.sum(0) == 1):
        row, sudden = judged[-1].iloc[at], bool(turned[-1, at])
        before = judged[0].iloc[at]["result"]
        yield Flag(
            level="checks",
            group=row["backend"],
            measure="",
            direction="better" if held[-1, at] else "worse",
            against="last night" if sudden else "baseline",
            words=f"{row['claim']}: {row['result']}, {before} before; {row['measured']:.3g}, allowed {row['allowed']}",
            nights=1 if sudden else tonight.age,
        )
