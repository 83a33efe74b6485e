"""Which law a part was drawn by: every registered law is held against the values, with every way to count fans.

A law is held by two tests on the values of all seeds: Kolmogorov and Smirnov's of the distribution, and one of the
second moment, which sees a standard deviation that is off much sooner. Together they call a right law wrong with
probability `level` at most. Constants, identities and orthogonal matrices are told by what they are.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tasks.core.audit.defaults import default, own_fans
from tasks.core.audit.sample import Part, error_of_std
from tasks.core.design.initializers import (
    CUT,
    LSUV,
    OWN,
    TRUNCATION,
    AsBuilt,
    Backend,
    Constant,
    Identity,
    Initializer,
    Law,
    Normal,
    Orthogonal,
    TruncatedNormal,
    Uniform,
    VarianceScaling,
    ZerO,
)

FALSE = 5e-4  # chance that a right law is called wrong anywhere in a model of USUAL parts, at most
USUAL = 200
MOMENTS = 200  # values, from which on the second moment is tested: of fewer its law is too far from a gamma law
POOLED = 20_000  # values of type bfloat16 that are held: of more, the steps between its numbers would show
EXACT = {"float16": 2e-3, "bfloat16": 1e-2}  # how near to a constant or to orthogonal values must be, relatively
NEARLY = 1e-4  # of any other type
GAINS = (math.sqrt(2), 5 / 3, 3 / 4)  # that PyTorch's calculate_gain gives for ReLU, tanh and SELU
CLOSE = 3.0  # standard errors, within which two standard deviations may be one
CUSTOM = (0.02, 0.01, 0.05, 1.0)  # standard deviations that authors set whatever the fans are
SHIFTED = 6.0  # standard errors, beyond which a mean is not that of a law around zero
KURTOSIS = {Normal: 3.0, TruncatedNormal: 2.365537, Uniform: 1.8}
SKEWNESS = {Normal: math.sqrt(8), TruncatedNormal: 1.488101, Uniform: 0.638877}  # of a squared value
NO_FANS = (1.0, 1.0)  # for a law that needs none, where there are none
Fanned = Literal["operation", "array", "none"]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Match:
    """A registered law that fits: its label, by which fans, the law without fans, and the p-value of the fit."""

    label: str
    fans: Fanned
    law: Law
    p: float

    def __str__(self) -> str:
        return f"{self.label} (array)" if self.fans == "array" else self.label


@dataclass(frozen=True)
class Fit:
    """What the values of a part say of its law.

    law: in words, the best of all. matches: every registered law that fits: the framework's default, then those with
    the fans of the operation or without fans, then those with the fans of the array; of each kind the largest p-value
    first. default: whether the framework's default fits.
    """

    law: str
    matches: tuple[Match, ...] = ()
    default: bool = False


def level(parts: int) -> float:
    """Return at which p-value a law is called wrong, in a model of so many parts.

    >>> round(level(200), 12)
    2.5e-06
    """
    return FALSE / max(USUAL, parts)


def fit(part: Part, backend: Backend, alpha: float) -> Fit:
    """Return what the values of a part say of its law; alpha: at which p-value a law is called wrong."""
    if told := _told(part):
        return Fit(told)
    values = _values(part)
    if part.bad or values.size == 0:
        return Fit("NaN or infinite" if part.bad else "empty")
    usual = default(part, backend)
    as_usual = usual is not None and p_value(usual, values, alpha) >= alpha
    found = [
        Match(label, fans, law, p)
        for label, fans, law in candidates(part, backend)
        if (p := p_value(law, values, alpha)) >= alpha
    ]
    own = _key(usual) if usual is not None else None
    found.sort(key=lambda match: (match.fans == "array", _key(match.law) != own, -match.p))
    if usual is not None and as_usual and own_fans(part, backend):
        found.insert(0, Match(f"{backend}_default", "none", usual, p_value(usual, values)))
    if found:
        return Fit(str(found[0]), tuple(found), as_usual)
    return Fit(_with_gain(part, backend, values, alpha) or _unregistered(values, alpha))


def _told(part: Part) -> str | None:
    """Return the law of a part that is told without a test: a constant, an identity, an orthogonal matrix."""
    near = EXACT.get(part.dtype, NEARLY)
    if part.constant:
        named = {0.0: "zeros", 1.0: "ones"}
        return named.get(part.least, f"constant(value={part.least:.6g})")
    if part.identity is not None:
        return "identity" if part.identity == 1 else f"identity(gain={part.identity:.6g})"
    if part.spread and part.spread.rank > 1 and part.spread.largest - part.spread.smallest < near * part.spread.largest:
        gain = part.spread.largest
        return "orthogonal" if abs(gain - 1) < near else f"orthogonal(gain={gain:.4g})"
    return None


def _values(part: Part) -> Values:
    """Return a part's values, sorted: each draw once; an embedding's without zeros, the row of its padding."""
    fresh = [at for at, each in enumerate(part.digests) if each not in part.digests[:at]]
    values = (part.values[fresh] if fresh else part.values).ravel()
    values = np.sort(values[:POOLED] if part.dtype == "bfloat16" else values)
    return values[values != 0] if part.role == "embedding" else values


def registered() -> Iterator[tuple[str, VarianceScaling]]:
    """Yield label and law of what scales variances by fans: registered initializers, and He's by fan_out."""
    for entry in OWN:
        if isinstance(entry.law, VarianceScaling) and entry.name not in ("keras_default", "variance_scaling"):
            yield entry.name, entry.law
            if entry.law.distribution == "normal":
                scale, mode = entry.law.scale, entry.law.mode
                yield f"{entry.name}, cut", VarianceScaling(scale, mode, "truncated_normal")
                yield f"{entry.name}, not cut", VarianceScaling(scale, mode, "untruncated_normal")
    yield "he_normal by fan_out", VarianceScaling(2.0, "fan_out", "untruncated_normal")
    yield "he_normal by fan_out, cut", VarianceScaling(2.0, "fan_out", "truncated_normal")
    yield "he_uniform by fan_out", VarianceScaling(2.0, "fan_out", "uniform")


def candidates(part: Part, backend: Backend) -> Iterator[tuple[str, Fanned, Law]]:
    """Yield every law that a part may have: its label, by which fans, and the law without fans.

    Each law comes once by the fans of the operation, and once by those of the array.
    """
    seen: set[tuple[Fanned, str, str]] = set()
    ways: tuple[tuple[Fanned, tuple[float, float] | None], ...] = (
        *(("operation", part.fans), ("operation", part.unstrided)),
        ("array", part.counted if part.role == "kernel" and part.counted != part.unstrided else None),
    )
    for way, fans in ways:
        if fans is None:
            continue
        for label, law in registered():
            free = law.without_fans(*fans, backend)
            if (way, *_key(free)) not in seen:
                seen.add((way, *_key(free)))
                yield label, way, free
    for std in CUSTOM:
        yield f"random_normal(std={std:g})", "none", Normal(std)
        yield f"truncated_normal(std={std:g})", "none", TruncatedNormal(std)
    yield "random_uniform", "none", Uniform()


def _key(law: Law) -> tuple[str, str]:
    """Return what two laws share if they are one, but for rounding."""
    return type(law).__name__, f"{law.variance(1, 1):.9g}"


def cdf(law: Law, values: Values) -> Values:
    """Return the probability of smaller values under a law without fans.

    >>> cdf(Uniform(2.0), np.array([-2.0, 0.0, 1.0])).tolist()
    [0.0, 0.5, 0.75]
    """
    from scipy.special import ndtr

    match law:
        case Normal(std):
            return np.asarray(ndtr(values / std))
        case TruncatedNormal(std):
            return _cut(values, std, CUT)
        case Uniform(bound):
            return np.clip((values + bound) / (2 * bound), 0, 1)
    raise ValueError(f"a law must be normal, cut or uniform, and without fans; got {law}")


def _cut(values: Values, std: float, cut: float) -> Values:
    from scipy.special import ndtr

    within = np.clip(values / std, -cut, cut)
    return np.asarray((ndtr(within) - ndtr(-cut)) / (ndtr(cut) - ndtr(-cut)))


def p_value(law: Law, values: Values, alpha: float = 0.0) -> float:
    """Return how probable values are that fit a law no better: twice the smaller p-value of both tests, at most 1.

    values: sorted. Where the second moment alone gives less than alpha, the other test is left out.
    """
    second = _second_moment(law, values)
    if 2 * second < alpha:
        return 2 * second
    return min(1.0, 2 * min(second, _kolmogorov(cdf(law, values))))


def _kolmogorov(uniform: Values) -> float:
    """Return the p-value of Kolmogorov and Smirnov's test, of sorted values that would be uniform on [0, 1]."""
    from scipy.special import kolmogorov

    n = uniform.size
    steps = np.arange(n + 1) / n
    distance = max(float((steps[1:] - uniform).max()), float((uniform - steps[:-1]).max()))
    return float(kolmogorov(math.sqrt(n) * distance))


def _second_moment(law: Law, values: Values) -> float:
    """Return the p-value of the mean square of values under a law.

    A gamma law describes it that is shifted so as to have the same mean, variance and skewness. Of a normal law it is
    the χ² test of a variance. Of few values 1 is returned.
    """
    from scipy.special import gammainc, gammaincc

    if values.size < MOMENTS:
        return 1.0
    ratio = float(np.mean(values**2)) / law.variance(1, 1)
    shape = 4 * values.size / SKEWNESS[type(law)] ** 2
    away = (ratio - 1) / math.sqrt((KURTOSIS[type(law)] - 1) / values.size)  # in standard deviations
    at = max(shape + math.sqrt(shape) * away, 0.0)
    return 2 * min(float(gammainc(shape, at)), float(gammaincc(shape, at)), 0.5)


def _with_gain(part: Part, backend: Backend, values: Values, alpha: float) -> str | None:
    """Return the law of Glorot or LeCun that values fit best with one of GAINS, by the fans of the operation.

    The standard deviation must be as near as chance explains, because an author may have set any other one.
    """
    root, fits = math.sqrt(float(np.mean(values**2))), {"": 0.0}
    for fans in filter(None, dict.fromkeys((part.fans, part.unstrided))):
        for label, base in registered():
            name, comma, cut = label.partition(",")
            for gain in GAINS if name.startswith(("glorot", "lecun")) else ():
                law = replace(base, scale=base.scale * gain**2).without_fans(*fans, backend)
                error = error_of_std(KURTOSIS[type(law)], values.size)
                if abs(root / math.sqrt(law.variance(1, 1)) - 1) < CLOSE * error:
                    fits[f"{name}(gain={gain:.4g}){comma}{cut}"] = p_value(law, values, alpha)
    best = max(fits, key=fits.__getitem__)
    return best if fits[best] >= alpha else None


def _unregistered(values: Values, alpha: float) -> str:
    """Return in words the family of values that no registered law fits, with the scale that they have."""
    n, mean, std = values.size, float(values.mean()), float(values.std())
    if abs(mean) > SHIFTED * std / math.sqrt(n):
        return f"mean {mean:.4g}, SD {std:.4g}"
    root = math.sqrt(float(np.mean(values**2)))
    bound = float(np.abs(values).max()) * (n + 1) / n
    families = {
        f"random_normal(std={root:.4g})": cdf(Normal(root), values),
        f"truncated_normal(std={root / TRUNCATION:.4g})": cdf(TruncatedNormal(root / TRUNCATION), values),
        f"random_uniform(bound={bound:.4g})": cdf(Uniform(bound), values),
    }
    fits = {words: _kolmogorov(uniform) for words, uniform in families.items()}
    best = max(fits, key=fits.__getitem__)
    if fits[best] >= alpha:
        return best
    if width := _width(root / bound):
        own = bound / width
        if _kolmogorov(_cut(values, own, width)) >= alpha:
            return f"normal(std={own:.4g}) cut at ±{bound:.4g}"
    return f"no known law, SD {std:.4g}"


def _width(share: float) -> float | None:
    """Return at how many of its standard deviations a normal law is cut whose SD is this share of its bound."""
    from scipy import optimize, stats

    def off(cut: float) -> float:
        return float(stats.truncnorm.std(-cut, cut)) / cut - share

    return float(optimize.brentq(off, 0.05, 8)) if off(0.05) > 0 > off(8) else None


@dataclass(frozen=True)
class Held:
    """How a part was held against a law that somebody asked for: whether it has it, and what there is instead."""

    held: bool
    evidence: str


def hold(part: Part, asked: Initializer, backend: Backend, alpha: float) -> Held:
    """Return whether a part has the law of an initializer, with the fans of the operation, strides counted or not.

    Raises:
        ValueError: if the law depends on data, or on what an audit does not keep.
    """
    law, near = asked.law, EXACT.get(part.dtype, NEARLY)
    if part.size == 0:
        return Held(True, "")
    if part.bad:
        return Held(False, "has values that are NaN or infinite")
    match law:
        case AsBuilt():
            return Held(True, "")
        case LSUV() | ZerO():
            raise ValueError(f"rules: {asked.name} cannot be held against values; choose another initializer")
        case Constant(value):
            gap = max(abs(part.least - value), abs(part.most - value))
            return Held(gap <= near * abs(value), f"values from {part.least:.4g} to {part.most:.4g}")
        case Identity(gain):
            return Held(part.identity is not None and abs(part.identity - gain) <= near, "is no such identity")
        case Orthogonal():
            return _orthogonal(part, law.factor, near)
    if part.constant:
        return Held(False, f"all values are {part.least:.4g}")
    values, fitting = _values(part), []
    for fans in {part.fans or NO_FANS, part.unstrided or NO_FANS}:
        free = law.without_fans(*fans, backend)
        if type(free) not in KURTOSIS:
            raise ValueError(f"rules: {asked.name} cannot be held against values; choose another initializer")
        fitting.append((p_value(free, values), math.sqrt(free.variance(1, 1))))
    p, width = max(fitting)
    return Held(p >= alpha, f"SD {part.std:.4g} where {width:.4g} was asked for, p {p:.1g}")


def _orthogonal(part: Part, gain: float, near: float) -> Held:
    ends = part.spread
    if ends is None:
        return Held(False, "the matrices are not orthogonal")
    right = max(abs(ends.smallest - gain), abs(ends.largest - gain)) <= near * gain
    return Held(right, f"singular values from {ends.smallest:.3g} to {ends.largest:.3g}")
