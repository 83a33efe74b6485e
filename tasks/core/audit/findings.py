"""Findings: what is wrong, or may be, with how a model's parameters were drawn. One function for each kind of finding.

Every finding has its evidence, a remedy in a line, and a severity: a fault is hardly ever meant, a doubt may be meant,
a note is only told.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from pydantic import BaseModel, ConfigDict

from tasks.core.audit import laws
from tasks.core.audit.laws import Fit, Held, Match
from tasks.core.audit.sample import Part, Seen, error_of_std
from tasks.core.design.initializers import Initializer

Severity = Literal["fault", "doubt", "note"]
SEVERITIES: tuple[Severity, ...] = ("fault", "doubt", "note")
FAR = 4.0  # a variance that is off by more than this factor is a fault, by less a doubt
FEW = 0.2  # share of the layers, up to which they are exceptions among the others
STUCK = ("vanishing", "dead", "symmetric")  # first passes in which a kernel of zeros may be the reason
OTHERS = 3  # layers at least, of which an exception is one
ZEROS = 0.01  # share of values that are zero, above which a random law in low precision has lost its smallest values
BEYOND = 5.0  # standard deviations, beyond which a bound cuts nothing: one normal value in two million lies there
SMALLEST = {"float16": 6e-8, "bfloat16": 9.2e-41}  # the smallest numbers of types in low precision
LOSES = 100.0  # smallest numbers in a standard deviation, of which a random law loses no more than ZEROS


class Finding(BaseModel):
    """A finding. what: its kind; parts: the names of the parts that it is about, or of a layer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    severity: Severity
    what: str
    parts: tuple[str, ...]
    evidence: str
    remedy: str


@dataclass(frozen=True)
class Judged:
    """What was seen of a model, which law fits each part, and what was asked of some parts, by the part's name.

    Where a number that was asked for depends on fans, it is asked for with strides and without, in this order. health:
    what the first pass showed, if there was one.
    """

    seen: Seen
    fits: Mapping[str, Fit]
    alpha: float
    asked: Mapping[str, Sequence[Initializer]] = field(default_factory=dict)
    health: str = ""

    @cached_property
    def held(self) -> dict[str, tuple[Initializer, Held]]:
        """What was asked of a part, and how it was held, by the part's name: what it holds, or else the first."""
        found = {}
        for part in self.seen.parts:
            tried = [
                (each, laws.hold(part, each, self.seen.backend, self.alpha)) for each in self.asked.get(part.name, ())
            ]
            if tried:
                found[part.name] = next((pair for pair in tried if pair[1].held), tried[0])
        return found

    @property
    def kernels(self) -> list[Part]:
        """The kernels of layers that sum over inputs."""
        return [part for part in self.seen.parts if part.role == "kernel"]

    @property
    def usual(self) -> str | None:
        """The law that most kernels have of those whose fans cannot be mistaken, None if no two have one."""
        plain = [part for part in self.kernels if part.counted == part.unstrided]
        labels = Counter(self.fits[part.name].matches[0].label for part in plain if self.fits[part.name].matches)
        return next((label for label, count in labels.most_common(1) if count > 1), None)


def not_finite(judged: Judged) -> Iterator[Finding]:
    """Find values that are NaN or infinite. While a model is built, PyTorch fills memory without values with NaN."""
    for part in judged.seen.parts:
        if part.bad:
            share = part.bad / (part.size * judged.seen.seeds)
            yield Finding(
                severity="fault",
                what="not finite",
                parts=(part.name,),
                evidence=f"{share:.0%} of the values are NaN or infinite, as memory is that nobody initialized",
                remedy="initialize the parameter before the model is used",
            )


def not_as_asked(judged: Judged) -> Iterator[Finding]:
    """Find another law than a rule says."""
    for part in judged.seen.parts:
        asked, held = judged.held.get(part.name, (None, None))
        if asked and held and not held.held:
            yield Finding(
                severity="fault",
                what="not what the rules say",
                parts=(part.name,),
                evidence=f"{asked.name} was asked for; {held.evidence}; the values fit {judged.fits[part.name].law}",
                remedy=f"draw {part.name} by {asked.name}, or change the rule",
            )


def left_at_default(judged: Judged) -> Iterator[Finding]:
    """Find a few kernels at the framework's default, where all the others have another law."""
    drawn = [part for part in judged.kernels if not part.constant and not part.bad]
    left = [part for part in drawn if judged.fits[part.name].default]
    others = [part for part in drawn if part not in left]
    layers = {part.layer for part in left}
    if not left or len({part.layer for part in others} - layers) < max(OTHERS, len(layers) / FEW - len(layers)):
        return
    theirs = Counter(judged.fits[part.name].law for part in others)
    for part in left:
        if not any(match.label in theirs for match in judged.fits[part.name].matches):
            yield Finding(
                severity="doubt",
                what="left at the framework's default",
                parts=(part.name,),
                evidence=f"{judged.fits[part.name].law}, while the others are {theirs.most_common(1)[0][0]}",
                remedy="initialize this layer as the others; code that matches names or types may have missed it",
            )


def wrong_fans(judged: Judged) -> Iterator[Finding]:
    """Find laws that fit by the fans of the array, and not by those of the operation: transposed, grouped, fused."""
    wrong = {part.name: _by_array(judged, part) for part in judged.kernels if not _everywhere(judged, part)}
    often = Counter(match.label for matches in wrong.values() for match in matches)
    found: dict[str, list[tuple[Part, Match]]] = defaultdict(list)
    for part in judged.kernels:
        if matches := wrong.get(part.name):
            found[part.parameter].append((part, max(matches, key=lambda match: often[match.label])))
    for group in found.values():
        part, match = group[0]
        (fan_in, fan_out), (counted_in, counted_out) = part.operation, part.array
        law = dict(laws.registered())[match.label]
        factor = (law.std(counted_in, counted_out) / law.std(fan_in, fan_out)) ** 2
        what, remedy = _of_fans(part)
        yield Finding(
            severity="doubt" if 1 / FAR <= factor <= FAR else "fault",
            what=what,
            parts=tuple(each.name for each, _ in group),
            evidence=f"SD {part.std:.4g} is {match.label} by the array's fans ({counted_in:g}, {counted_out:g}); the "
            f"operation's are ({fan_in:g}, {fan_out:g}), so the variance is {factor:.2g} of what the law means",
            remedy=remedy,
        )


def _by_array(judged: Judged, part: Part) -> list[Match]:
    """Return the laws that a kernel has by the fans of its array, if it has none by those of the operation.

    Where a law by the array equals another one by the operation, the law counts that most other kernels have.
    """
    matches = judged.fits[part.name].matches
    others = {match.label for match in matches if match.fans != "array"}
    found = [match for match in matches if match.fans == "array"]
    if not others:
        return found
    return [match for match in found if match.label == judged.usual and match.label not in others]


def _of_fans(part: Part) -> tuple[str, str]:
    """Return what is wrong with a kernel's fans, and the remedy."""
    if part.parts > 1:
        return "a fused kernel initialized as one", f"draw each of its {part.parts} kernels by itself"
    if part.transposed:
        return "wrong fans, transposed", "count fan_in from the inputs, over the product of the strides"
    if part.groups > 1:
        return f"wrong fans, {part.groups} groups", "count the fans within a group, or take mode fan_in"
    return "wrong fans", "count the fans of the operation, not of the array"


def _everywhere(judged: Judged, part: Part) -> bool:
    """Tell whether kernels with other fans have the standard deviation of a kernel, and not by their own fans.

    Then the kernel does not have it by fans, either.
    """
    twins = [
        other
        for other in judged.kernels
        if other.counted != part.counted and other.std > 0 and part.std > 0
        if all(match.fans == "none" for match in judged.fits[other.name].matches)
        if abs(math.log(other.std / part.std)) < laws.CLOSE * (_error(other) + _error(part))
    ]
    return len({other.parameter for other in twins}) > 1


def _error(part: Part) -> float:
    return error_of_std(part.kurtosis, part.size * max(part.draws, 1))


def cut_nothing(judged: Judged) -> Iterator[Finding]:
    """Find bounds of a normal law that cut nothing, because they are many standard deviations away."""
    for part in judged.seen.parts:
        if part.cut and not part.constant and part.cut > BEYOND * part.std:
            yield Finding(
                severity="note",
                what="bounds that cut nothing",
                parts=(part.name,),
                evidence=f"cut at ±{part.cut:.4g}, which is {part.cut / part.std:.3g} standard deviations",
                remedy="give trunc_normal_ bounds in multiples of std, a=-2*std and b=2*std, if a cut is meant",
            )


def drawn_twice(judged: Judged) -> Iterator[Finding]:
    """Find parameters that their author's code drew more than once: only the last draw counts."""
    found: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for part in judged.seen.parts:
        if len(part.drawn) > 1:
            found[part.drawn].append(part.name)
    for places, names in found.items():
        yield Finding(
            severity="note",
            what="initialized twice",
            parts=tuple(names),
            evidence=f"drawn in {', then in '.join(places)}; only the last draw counts",
            remedy="initialize each parameter in one place; look whether the last law is the one that is meant",
        )


def parts_not_orthogonal(judged: Judged) -> Iterator[Finding]:
    """Find a recurrent or grouped kernel that is orthogonal as a whole, while its gates or groups are not."""
    near = laws.NEARLY
    found: dict[str, list[Part]] = defaultdict(list)
    for part in judged.kernels:
        whole, own = part.whole, part.spread
        several = part.parts > 1 or part.groups > 1
        if several and whole and whole.rank > 1 and own and whole.largest > 0:
            as_whole = whole.largest - whole.smallest < near * whole.largest
            if as_whole and own.largest - own.smallest > near * own.largest:
                found[part.parameter].append(part)
    for name, group in found.items():
        low = min(part.spread.smallest for part in group if part.spread)
        high = max(part.spread.largest for part in group if part.spread)
        each = "group" if group[0].parts == 1 else "gate"
        yield Finding(
            severity="doubt",
            what=f"{each}s not orthogonal one by one",
            parts=tuple(part.name for part in group),
            evidence=f"{name} is orthogonal as a whole; its parts have singular values from {low:.2g} to {high:.2g}",
            remedy=f"draw an orthogonal matrix for each {each}",
        )


def units_alike(judged: Judged) -> Iterator[Finding]:
    """Find a layer all of whose units have the same weights, so that training may keep them alike.

    Zeros are only told, unless the first pass is stuck: heads and the ends of branches begin with them.
    """
    of_zeros: Severity = "doubt" if judged.health in STUCK else "note"
    for part in judged.kernels:
        if part.alike and not part.bad:
            zeros = part.constant and part.least == 0
            yield Finding(
                severity=of_zeros if zeros else "fault",
                what="all units alike",
                parts=(part.name,),
                evidence="all weights are zero"
                if zeros
                else f"every unit has the same weights, {judged.fits[part.name].law}",
                remedy="fine at the end of a residual branch or of the model; elsewhere draw at random"
                if zeros
                else "draw the kernel at random",
            )


def same_values(judged: Judged) -> Iterator[Finding]:
    """Find equal values in two parameters that are not one: a generator or an initializer that was used twice.

    A table that no seed changes may be meant for both, and so may the frozen copy of a trained parameter.
    """
    found: dict[tuple[str, ...], list[Part]] = defaultdict(list)
    for part in judged.seen.parts:
        if not part.constant and part.identity is None and part.size > 1 and not part.bad and not _table(judged, part):
            found[part.digests].append(part)
    for group in found.values():
        if len(group) > 1:
            frozen = any(part.frozen for part in group)
            yield Finding(
                severity="doubt" if frozen else "fault",
                what="the same values twice",
                parts=tuple(part.name for part in group),
                evidence="equal in every bit under every seed, though they are different parameters",
                remedy="fine for a frozen copy; else copy no layer after it is initialized"
                if frozen
                else "give each its own initializer or seed, and copy no layer after it is initialized",
            )


def _table(judged: Judged, part: Part) -> bool:
    """Tell whether a part has the same values under every seed, and these are no draw of a registered law."""
    drawn = judged.fits[part.name].matches or judged.fits[part.name].law.startswith("orthogonal")
    return part.fixed and (part.repeats or not drawn)


def same_under_every_seed(judged: Judged) -> Iterator[Finding]:
    """Find random values that do not depend on the seed."""
    for part in judged.seen.parts:
        fixed = judged.seen.seeds > 1 and part.fixed and part.size > 0 and not part.repeats
        if fixed and not part.constant and part.identity is None and not part.bad:
            yield Finding(
                severity="doubt",
                what="does not depend on the seed",
                parts=(part.name,),
                evidence=f"equal in every bit under {judged.seen.seeds} seeds: {judged.fits[part.name].law}",
                remedy="draw from the global generator; a fixed seed or a constant table may be meant",
            )


def not_reproducible(judged: Judged) -> Iterator[Finding]:
    """Find other values when the model is built once more under the same seed."""
    for part in judged.seen.parts:
        if part.again != part.digests[0] and not part.bad:
            yield Finding(
                severity="fault",
                what="not reproducible",
                parts=(part.name,),
                evidence="built twice under one seed, the values differ",
                remedy="draw from the framework's, NumPy's or Python's global generator, which a seed decides",
            )


def tied(judged: Judged) -> Iterator[Finding]:
    """Tell parameters that are one tensor, and whose law won."""
    by_parameter = {part.parameter: judged.fits[part.name].law for part in judged.seen.parts}
    for name, owner in judged.seen.tied:
        yield Finding(
            severity="note",
            what="tied",
            parts=(name, owner),
            evidence=f"both are one tensor, whose values fit {by_parameter.get(owner, 'no law that is known')}",
            remedy="nothing to do if the law is meant for both",
        )


def biases_not_zero(judged: Judged) -> Iterator[Finding]:
    """Find a few biases that are not zero, where all the others are."""
    biases = [part for part in judged.seen.parts if part.role == "bias"]
    other = [part for part in biases if (part.least, part.most) != (0.0, 0.0) and not _forgets(part)]
    zero = len([part for part in biases if (part.least, part.most) == (0.0, 0.0)])
    if zero < OTHERS or len(other) > FEW * len(biases):
        return
    for part in other:
        yield Finding(
            severity="doubt",
            what="biases not zero",
            parts=(part.name,),
            evidence=f"{judged.fits[part.name].law}, while {zero} other biases are zeros",
            remedy="set them to zero, if nothing else is meant",
        )


def _forgets(part: Part) -> bool:
    """Tell whether biases are those of an LSTM's forget gate, which are ones by custom."""
    return part.kind.startswith("LSTM") and part.name.endswith(".f") and part.constant


def lost_precision(judged: Judged) -> Iterator[Finding]:
    """Find a random law in low precision, of which the smallest values have become zero."""
    for part in judged.seen.parts:
        small = part.std < LOSES * SMALLEST.get(part.dtype, 0.0)
        if small and part.role in ("kernel", "embedding") and not part.constant and part.zeros > ZEROS:
            yield Finding(
                severity="doubt",
                what="lost in low precision",
                parts=(part.name,),
                evidence=f"{part.zeros:.0%} of the values are zero in {part.dtype}, SD {part.std:.2g}",
                remedy="draw in float32 and convert afterwards, or scale in the forward pass",
            )


OF_LAWS = (units_alike, wrong_fans, parts_not_orthogonal, left_at_default, biases_not_zero)
"""Kinds whose doubts and notes are settled where a rule asked for the law, and the part has it."""
KINDS: Sequence[Callable[[Judged], Iterator[Finding]]] = (
    *(not_finite, not_as_asked, not_reproducible, same_values, units_alike, wrong_fans, parts_not_orthogonal),
    *(left_at_default, same_under_every_seed, biases_not_zero, lost_precision, cut_nothing, drawn_twice, tied),
)


def found(judged: Judged) -> list[Finding]:
    """Return all findings about parameters, kind by kind."""
    settled = {name for name, (_, held) in judged.held.items() if held.held}
    return [
        finding
        for kind in KINDS
        for finding in kind(judged)
        if not (kind in OF_LAWS and finding.severity != "fault" and settled.issuperset(finding.parts))
    ]
