"""Two snapshots side by side: what changed between two versions of a library, a port, or a refactoring.

Parts are matched by name; what has no namesake is matched by order and shape, where a transposed array counts as equal:
frameworks lay kernels out differently.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from tasks.core.audit.audit import Audit, Row
from tasks.core.audit.flow import LayerFlow
from tasks.core.audit.sample import error_of_std

ERRORS = 5.0  # standard errors, beyond which two standard deviations differ; by chance one pair in two million does
APART = 1e-6  # share, below which numbers without a sampling error are equal
LOSS, VARIANCE = 1.25, 2.0  # factors, beyond which a first loss, and a variance of the first pass, have changed
Pair = tuple[Row, Row]


@dataclass(frozen=True)
class Change:
    """What changed. name: of a part or a layer in the first snapshot; what: of it; before, after: in words."""

    name: str
    what: str
    before: str
    after: str


@dataclass(frozen=True)
class Compared:
    """Two audits side by side. equal: of how many matched parts all bits are equal; only: names that one alone has."""

    first: Audit
    second: Audit
    matched: int
    equal: int
    changes: tuple[Change, ...]
    only: tuple[tuple[str, ...], tuple[str, ...]]

    @property
    def same(self) -> bool:
        """Whether nothing changed."""
        return not self.changes and not any(self.only)


def compare(first: Audit, second: Audit) -> Compared:
    """Return what changed from one audit to another."""
    pairs = matched(first.rows, second.rows)
    firsts, seconds = {one.name for one, _ in pairs}, {other.name for _, other in pairs}
    changes = [change for pair in pairs for change in _changed(*pair)]
    return Compared(
        first,
        second,
        len(pairs),
        sum(one.digest == other.digest for one, other in pairs),
        (*changes, *_flow(first, second, pairs)),
        (
            tuple(row.name for row in first.rows if row.name not in firsts),
            tuple(row.name for row in second.rows if row.name not in seconds),
        ),
    )


def matched(first: Sequence[Row], second: Sequence[Row]) -> list[Pair]:
    """Return pairs of rows that are the same part: by name, else by order and shape."""
    named = {row.name: row for row in second}
    pairs = [(row, named[row.name]) for row in first if row.name in named]
    taken = {row.name for row, _ in pairs}
    left, right = ([row for row in rows if row.name not in taken] for rows in (first, second))
    ours, theirs = ([(row.role, tuple(sorted(row.shape))) for row in rows] for rows in (left, right))
    for block in SequenceMatcher(None, ours, theirs, autojunk=False).get_matching_blocks():
        pairs += zip(left[block.a :][: block.size], right[block.b :][: block.size], strict=True)
    return pairs


def _changed(one: Row, other: Row) -> Iterator[Change]:
    """Yield what changed of a part: its law, its standard deviation, its fans, its type."""
    alike = _family(one.law) == _family(other.law) or one.law in other.fits or other.law in one.fits
    if not alike and one.digest != other.digest:  # another release may call the same values otherwise
        yield Change(one.name, "law", one.law, other.law)
    if _apart(one, other):
        yield Change(one.name, "SD", _amount(one), _amount(other))
    if one.fans != other.fans:
        yield Change(one.name, "fans", _fans(one.fans), _fans(other.fans))
    if one.dtype != other.dtype:
        yield Change(one.name, "type", one.dtype, other.dtype)


def _family(law: str) -> str:
    """Return a law's name without numbers, which a draw decides where no registered law fits.

    >>> _family("random_normal(std=0.0883)")
    'random_normal(std=)'
    """
    return re.sub(r"-?\d+\.?\d*(e-?\d+)?", "", law)


def _apart(one: Row, other: Row) -> bool:
    """Tell whether two standard deviations differ by more than chance."""
    if not (one.std and other.std):
        return abs(one.std - other.std) > APART * max(one.std, other.std) or abs(one.mean - other.mean) > APART * max(
            abs(one.mean), abs(other.mean)
        )
    error = math.hypot(*(error_of_std(row.kurtosis, row.size * row.draws) for row in (one, other)))
    return abs(math.log(one.std / other.std)) > max(ERRORS * error, APART)


def _amount(row: Row) -> str:
    he = f", {row.of_he:.2f} of He's" if row.of_he else ""
    return f"{row.std:.4g}{he}" if row.std else f"all {row.mean:.4g}"


def _fans(fans: tuple[float, float] | None) -> str:
    return f"({fans[0]:g}, {fans[1]:g})" if fans else "none"


def _flow(first: Audit, second: Audit, pairs: Sequence[Pair]) -> Iterator[Change]:
    """Yield what changed of the first pass, if both audits have one."""
    one, other = first.flow, second.flow
    if one is None or other is None:
        return
    if one.health != other.health:
        yield Change("first pass", "health", one.health, other.health)
    if _factor(one.ratio, other.ratio) > LOSS:
        yield Change("first pass", "loss over a guess's", f"{one.ratio:.3g}", f"{other.ratio:.3g}")
    twins = {row.layer: twin.layer for row, twin in pairs if row.role in ("kernel", "embedding")}
    theirs = {layer.name: layer for layer in other.layers}
    for layer in one.layers:
        if twin := theirs.get(twins.get(layer.name, "")):
            yield from _of_layer(layer, twin)


def _of_layer(layer: LayerFlow, twin: LayerFlow) -> Iterator[Change]:
    for what, before, after in (
        ("variance forward", layer.forward, twin.forward),
        ("variance backward", layer.backward, twin.backward),
    ):
        if before is not None and after is not None and _factor(before, after) > VARIANCE:
            yield Change(layer.name, what, f"{before:.3g}", f"{after:.3g}")


def _factor(one: float, other: float) -> float:
    """Return by what factor two numbers differ, at least 1.

    >>> _factor(2.0, 1.0), _factor(0.0, 0.0), _factor(0.0, 1.0)
    (2.0, 1.0, inf)
    """
    if one == other:
        return 1.0
    low, high = sorted((one, other))
    return high / low if low > 0 else math.inf
