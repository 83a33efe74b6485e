"""The weight initializers: each a law with its formula, registered once for every backend.

A law says how the values of a kernel are distributed; an initializer is a law with a name. The fans of a layer are its
numbers of inputs (fan_in) and outputs (fan_out). Kernels have the shape (fan_in, fan_out), as Keras stores them.

There are two ways to get weights. `native`: a backend calls its own framework's function. `shared`: `draw` makes one
NumPy array, and both backends copy the array; laws that the frameworks lack are always drawn this way. The two ways
differ for the normal laws of the variance-scaling family: Keras cuts these at two standard deviations, PyTorch does
not.

A study names an initializer by its label: a name, or a name with parameters of the law, as in
`random_normal(std=0.01)`. Installed packages add initializers through the entry point `initbench.initializers`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self, get_args

import numpy as np
from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass as validated

from tasks.core.design.activations import ActivationName, gain
from tasks.core.design.faults import rule
from tasks.core.design.float32 import held
from tasks.core.design.nearest import choice

if TYPE_CHECKING:
    from scipy.stats.distributions import rv_frozen

Backend = Literal["pytorch", "keras"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)

CUT = 2.0  # truncated normals are cut at this many standard deviations
TRUNCATION = 0.87962566103423978  # standard deviation of N(0, 1) cut at ±CUT
SMALL = 0.05  # Keras's default for the standard deviation and for the bound, used in both backends
ENTRY_POINTS = "initbench.initializers"

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Mode = Literal["fan_in", "fan_out", "fan_avg"]
Distribution = Literal["normal", "truncated_normal", "untruncated_normal", "uniform"]
FINITE = ConfigDict(allow_inf_nan=False)


class Law:
    """How kernels are distributed. The fields of a subclass are the parameters that a study may set."""

    native: ClassVar[bool] = False
    """Whether both frameworks can draw from this law; if not, NumPy draws, and both backends copy the array."""

    def draw(self, fan_in: int, fan_out: int, *, rng: np.random.Generator) -> np.ndarray:
        """Draw a kernel of shape (fan_in, fan_out)."""
        raise NotImplementedError

    def variance(self, fan_in: int, fan_out: int) -> float:
        """Return the variance of one weight, or NaN if the weights do not follow a law of mean zero."""
        return math.nan

    @property
    def bias_std(self) -> float:
        """Return σ of the biases' law N(0, σ²), if the law of the kernels comes with biases; else 0."""
        return 0.0

    def under(self, activation: ActivationName) -> Self:
        """Return the law with the parameters set that depend on the network's activation."""
        return self

    def without_fans(self, fan_in: float, fan_out: float, backend: Backend | None = None) -> Law:
        """Return the law of a kernel with these fans, as a law that does not depend on fans.

        >>> VarianceScaling(2, "fan_in", "untruncated_normal").without_fans(fan_in=8, fan_out=4)
        Normal(std=0.5)
        """
        return self


@validated(frozen=True, config=FINITE)
class VarianceScaling(Law):
    """Weights of mean 0 and variance scale / n; by `mode`, n is fan_in, fan_out or their mean (fan_avg).

    distribution: `uniform`, `truncated_normal` (cut at ±2 standard deviations), `untruncated_normal`, or `normal`,
    which is each framework's own: cut in Keras, and not in PyTorch. Glorot & Bengio (2010) have scale 1 and fan_avg, He
    et al. (2015) scale 2 and fan_in, LeCun et al. (1998) scale 1 and fan_in.
    """

    native: ClassVar[bool] = True
    scale: Positive = 1.0
    mode: Mode = "fan_in"
    distribution: Distribution = "truncated_normal"

    def std(self, fan_in: float, fan_out: float) -> float:
        """Return the standard deviation, sqrt(scale / n).

        >>> VarianceScaling(2, "fan_in", "normal").std(fan_in=8, fan_out=4)
        0.5
        """
        return math.sqrt(
            self.scale / {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        )

    def variance(self, fan_in: int, fan_out: int) -> float:
        """Return the variance of one weight, scale / n.

        >>> round(VarianceScaling(1, "fan_avg", "uniform").variance(fan_in=6, fan_out=2), 12)
        0.25
        """
        return self.std(fan_in, fan_out) ** 2

    def without_fans(self, fan_in: float, fan_out: float, backend: Backend | None = None) -> Law:
        """Return the law with the standard deviation, or the bound, as a number."""
        std = self.std(fan_in, fan_out)
        if self.distribution == "uniform":
            return Uniform(3**0.5 * std)
        return TruncatedNormal(std / TRUNCATION) if self.cut(backend) else Normal(std)

    def cut(self, backend: Backend | None) -> bool:
        """Tell whether a backend cuts the distribution at ±CUT standard deviations.

        Without a backend NumPy draws, and does not cut `normal`: papers do not cut it either.
        """
        return self.distribution == "truncated_normal" or (self.distribution == "normal" and backend == "keras")

    def marginal(self, fan_in: int, fan_out: int, backend: Backend | None = None) -> rv_frozen:
        """Return the distribution of one weight; a cut normal is widened so that its variance is scale / n."""
        from scipy import stats

        std = self.std(fan_in, fan_out)
        if self.distribution == "uniform":
            bound = math.sqrt(3) * std
            return stats.uniform(-bound, 2 * bound)
        return stats.truncnorm(-CUT, CUT, scale=std / TRUNCATION) if self.cut(backend) else stats.norm(0, std)

    def draw(self, fan_in: int, fan_out: int, *, rng: np.random.Generator) -> np.ndarray:
        """Draw a kernel of shape (fan_in, fan_out)."""
        std = self.std(fan_in, fan_out)
        if self.distribution == "uniform":
            bound = math.sqrt(3) * std
            return rng.uniform(-bound, bound, (fan_in, fan_out))
        if self.cut(None):
            return TruncatedNormal(std / TRUNCATION).draw(fan_in, fan_out, rng=rng)
        return rng.normal(0, std, (fan_in, fan_out))


@validated(frozen=True, config=FINITE)
class Normal(Law):
    """Weights from N(0, std²); the fans do not matter."""

    native: ClassVar[bool] = True
    std: Positive = SMALL

    def variance(self, fan_in: int, fan_out: int) -> float:
        """Return the variance of one weight, std²."""
        return self.std**2

    def marginal(self, fan_in: int, fan_out: int, backend: Backend | None = None) -> rv_frozen:
        """Return the law of one weight."""
        from scipy import stats

        return stats.norm(0, self.std)

    def draw(self, fan_in: int, fan_out: int, *, rng: np.random.Generator) -> np.ndarray:
        """Draw a kernel of shape (fan_in, fan_out)."""
        return rng.normal(0, self.std, (fan_in, fan_out))


@validated(frozen=True, config=FINITE)
class TruncatedNormal(Law):
    """Weights from N(0, std²), drawn again if they lie beyond ±2 std; their standard deviation is TRUNCATION · std."""

    native: ClassVar[bool] = True
    std: Positive = SMALL

    def variance(self, fan_in: int, fan_out: int) -> float:
        """Return the variance of one weight, (TRUNCATION · std)².

        >>> round(TruncatedNormal(std=1.0).variance(fan_in=4, fan_out=4), 4)
        0.7737
        """
        return (TRUNCATION * self.std) ** 2

    def marginal(self, fan_in: int, fan_out: int, backend: Backend | None = None) -> rv_frozen:
        """Return the law of one weight."""
        from scipy import stats

        return stats.truncnorm(-CUT, CUT, scale=self.std)

    def draw(self, fan_in: int, fan_out: int, *, rng: np.random.Generator) -> np.ndarray:
        """Draw a kernel of shape (fan_in, fan_out)."""
        from scipy import stats

        return np.asarray(stats.truncnorm.rvs(-CUT, CUT, scale=self.std, size=(fan_in, fan_out), random_state=rng))


@validated(frozen=True, config=FINITE)
class Uniform(Law):
    """Weights from U[-bound, bound]; the fans do not matter."""

    native: ClassVar[bool] = True
    bound: Positive = SMALL

    def variance(self, fan_in: int, fan_out: int) -> float:
        """Return the variance of one weight, bound² / 3.

        >>> Uniform(bound=3.0).variance(fan_in=4, fan_out=4)
        3.0
        """
        return self.bound**2 / 3

    def marginal(self, fan_in: int, fan_out: int, backend: Backend | None = None) -> rv_frozen:
        """Return the law of one weight."""
        from scipy import stats

        return stats.uniform(-self.bound, 2 * self.bound)

    def draw(self, fan_in: int, fan_out: int, *, rng: np.random.Generator) -> np.ndarray:
        """Draw a kernel of shape (fan_in, fan_out)."""
        return rng.uniform(-self.bound, self.bound, (fan_in, fan_out))


@validated(frozen=True, config=FINITE)
class Orthogonal(Law):
    """Kernels that are `gain` times a matrix of orthonormal rows or columns (Saxe et al., 2014).

    The matrix is drawn uniformly from all such matrices (Haar measure). With gain `activation` the gain is that of the
    network's activation: √2 for ReLU, 5/3 for tanh.
    """

    native: ClassVar[bool] = True
    gain: Positive | Literal["activation"] = 1.0

    def under(self, activation: ActivationName) -> Orthogonal:
        """Return the law with the gain as a number."""
        return replace(self, gain=gain(activation)) if self.gain == "activation" else self

    @property
    def factor(self) -> float:
        """Return the gain as a number.

        Raises:
            ValueError: if the gain is `activation`; `under` replaces it by a number.
        """
        if self.gain == "activation":
            raise ValueError("orthogonal's gain must be a number here; `under` replaces the gain `activation` by one")
        return self.gain

    def variance(self, fan_in: int, fan_out: int) -> float:
        """Return the variance of one weight, gain² / max(fan_in, fan_out).

        >>> Orthogonal(gain=2.0).variance(fan_in=8, fan_out=4)
        0.5
        """
        return self.factor**2 / max(fan_in, fan_out)

    def marginal(self, fan_in: int, fan_out: int, backend: Backend | None = None) -> rv_frozen:
        """Return the distribution of one weight.

        It is that of one coordinate of a random vector of length `gain` in max(fan_in, fan_out) dimensions.
        """
        from scipy import stats

        half = (max(fan_in, fan_out) - 1) / 2
        return stats.beta(half, half, loc=-self.factor, scale=2 * self.factor)

    def draw(self, fan_in: int, fan_out: int, *, rng: np.random.Generator) -> np.ndarray:
        """Draw a kernel of shape (fan_in, fan_out)."""
        long, short = max(fan_in, fan_out), min(fan_in, fan_out)
        q, r = np.linalg.qr(rng.normal(size=(long, short)))
        # QR fixes signs by convention; without these signs the matrices would not be uniform (Mezzadri, 2007)
        q = self.factor * q * np.sign(np.diag(r))
        return q if fan_in >= fan_out else q.T


@validated(frozen=True, config=FINITE)
class MeanField(Law):
    """Kernels from N(0, sigma_w² / fan_in) and biases from N(0, sigma_b²) (Poole et al., 2016)."""

    native: ClassVar[bool] = True
    sigma_w: Positive = 1.0
    sigma_b: NonNegative = 0.0

    def kernel(self, fan_in: float) -> Normal:
        """Return the law of a kernel, N(0, sigma_w² / fan_in)."""
        return Normal(self.sigma_w / math.sqrt(fan_in))

    def without_fans(self, fan_in: float, fan_out: float, backend: Backend | None = None) -> Normal:
        """Return the law of a kernel with so many inputs."""
        return self.kernel(fan_in)

    def variance(self, fan_in: int, fan_out: int) -> float:
        """Return the variance of one weight, sigma_w² / fan_in.

        >>> MeanField(sigma_w=2.0).variance(fan_in=8, fan_out=4)
        0.5
        """
        return self.sigma_w**2 / fan_in

    @property
    def bias_std(self) -> float:
        """Return sigma_b, the standard deviation of the biases."""
        return self.sigma_b

    def marginal(self, fan_in: int, fan_out: int, backend: Backend | None = None) -> rv_frozen:
        """Return the law of one weight."""
        return self.kernel(fan_in).marginal(fan_in, fan_out)

    def draw(self, fan_in: int, fan_out: int, *, rng: np.random.Generator) -> np.ndarray:
        """Draw a kernel of shape (fan_in, fan_out)."""
        return self.kernel(fan_in).draw(fan_in, fan_out, rng=rng)


@validated(frozen=True, config=FINITE)
class Identity(Law):
    """Kernels with `gain` on the main diagonal and zeros elsewhere."""

    native: ClassVar[bool] = True
    gain: float = 1.0

    def draw(self, fan_in: int, fan_out: int, *, rng: np.random.Generator) -> np.ndarray:
        """Return the kernel of shape (fan_in, fan_out); nothing is drawn."""
        return self.gain * np.eye(fan_in, fan_out)


@validated(frozen=True, config=FINITE)
class Constant(Law):
    """Kernels whose weights are all equal. Every unit of a layer then computes the same, and training keeps it so."""

    native: ClassVar[bool] = True
    value: float = SMALL

    def draw(self, fan_in: int, fan_out: int, *, rng: np.random.Generator) -> np.ndarray:
        """Return the kernel of shape (fan_in, fan_out); nothing is drawn."""
        return np.full((fan_in, fan_out), self.value)


@validated(frozen=True)
class ZerO(Law):
    """Kernels that are not random, although the units of a layer differ (ZerO; Zhao et al., 2022, algorithm 1).

    If fan_out ≤ fan_in, the kernel is a partial identity I*: ones on the main diagonal, zeros elsewhere. If fan_out >
    fan_in, it is c I* H I*, where H is the Hadamard matrix of order 2ᵐ, m = ⌈log₂ fan_out⌉ and c = 2^(-(m - 1)/2).

    This c is the paper's. The authors' code, which is widely copied, has 2^(-m/2) and so kernels that are smaller by
    √2. Here the paper's is built, because it is what the name is cited for. The two agree where fan_out ≤ fan_in.
    """

    def draw(self, fan_in: int, fan_out: int, *, rng: np.random.Generator) -> np.ndarray:
        """Return the kernel of shape (fan_in, fan_out); nothing is drawn."""
        if fan_out <= fan_in:
            return np.eye(fan_in, fan_out)
        from scipy.linalg import hadamard

        m = math.ceil(math.log2(fan_out))
        return np.asarray(2 ** (-(m - 1) / 2) * hadamard(2**m)[:fan_in, :fan_out].astype(float))


@validated(frozen=True)
class LSUV(Law):
    """Orthogonal kernels, rescaled so that every layer's pre-activations have unit variance (Mishkin & Matas, 2016).

    `training.weights.with_unit_variance` rescales them on the train rows, from the first layer to the last.
    """

    def draw(self, fan_in: int, fan_out: int, *, rng: np.random.Generator) -> np.ndarray:
        """Draw a kernel of shape (fan_in, fan_out), before it is rescaled."""
        return Orthogonal().draw(fan_in, fan_out, rng=rng)


@validated(frozen=True)
class AsBuilt(Law):
    """Weights as the author of a model built them. It is for a network of one's own alone, and nothing is drawn."""


RandomLaw = VarianceScaling | Normal | TruncatedNormal | Uniform | Orthogonal | MeanField


@dataclass(frozen=True)
class Initializer:
    """A named law.

    default_of: the backend whose Linear or Dense layer has this initializer by default; release: the package and
    version that the initializer comes from, empty for initbench's own; always: the parameters that its label gives even
    when they are at their defaults.
    """

    name: str
    law: Law
    formula: str
    default_of: Backend | None = None
    release: str = ""
    always: tuple[str, ...] = ()


OWN = (
    Initializer("glorot_normal", VarianceScaling(1, "fan_avg", "normal"), "N(0, 2/(fan_in + fan_out))"),
    Initializer("glorot_uniform", VarianceScaling(1, "fan_avg", "uniform"), "U(±√(6/(fan_in + fan_out)))"),
    Initializer("he_normal", VarianceScaling(2, "fan_in", "normal"), "N(0, 2/fan_in)"),
    Initializer("he_uniform", VarianceScaling(2, "fan_in", "uniform"), "U(±√(6/fan_in))"),
    Initializer("lecun_normal", VarianceScaling(1, "fan_in", "normal"), "N(0, 1/fan_in)"),
    Initializer("lecun_uniform", VarianceScaling(1, "fan_in", "uniform"), "U(±√(3/fan_in))"),
    Initializer("variance_scaling", VarianceScaling(), "variance scale/n, by mode and distribution"),
    Initializer("mean_field", MeanField(), "N(0, sigma_w²/fan_in), biases N(0, sigma_b²)", always=("sigma_w",)),
    Initializer("orthogonal", Orthogonal(), "gain · Haar: WᵀW or WWᵀ = gain² I"),
    Initializer("lsuv", LSUV(), "orthogonal, rescaled to unit output variance on the train rows"),
    Initializer("zero", ZerO(), "partial identities and Hadamard matrices"),
    Initializer("random_uniform", Uniform(), "U(±bound)"),
    Initializer("random_normal", Normal(), "N(0, std²)"),
    Initializer("truncated_normal", TruncatedNormal(), "N(0, std²) cut at ±2 std"),
    Initializer("identity", Identity(), "W = gain · I"),
    Initializer("zeros", Constant(0), "W = 0"),
    Initializer("ones", Constant(1), "W = 1"),
    Initializer("constant", Constant(), "W = value"),
    Initializer("pytorch_default", VarianceScaling(1 / 3, "fan_in", "uniform"), "U(±1/√fan_in)", "pytorch"),
    Initializer("keras_default", VarianceScaling(1, "fan_avg", "uniform"), "U(±√(6/(fan_in + fan_out)))", "keras"),
)


AS_BUILT = Initializer("own", AsBuilt(), "as the model's author built it")
"""The initializer that leaves a model as it was built, under the cell's seed."""


@cache
def _registry() -> dict[str, Initializer | EntryPoint]:
    """Return every initializer by name. Those of installed packages are loaded only when they are used."""
    added = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    return {**added, **{entry.name: entry for entry in (*OWN, AS_BUILT)}}


def names() -> list[str]:
    """Return the names of initbench's own initializers, then of those that installed packages add."""
    own = [entry.name for entry in (*OWN, AS_BUILT)]
    return [*own, *(name for name in _registry() if name not in own)]


def _load(point: EntryPoint) -> Initializer:
    """Return a package's initializer.

    Raises:
        ValueError: if it cannot be imported, is no Initializer of this name, or has a law that is native.
    """
    origin = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
    try:
        added = point.load()
    except (ImportError, AttributeError) as error:
        raise ValueError(f"initializer {point.name!r} of {origin} must be importable; it says: {error}") from None
    if not isinstance(added, Initializer) or added.name != point.name or added.law.native:
        raise ValueError(
            f"{point.value} of {origin} must be an Initializer called {point.name!r}, with a law that is not native; "
            f"got {added!r}"
        )
    return replace(added, release=origin)


LABEL = re.compile(r"\s*([A-Za-z_]\w*)\s*(?:\((.*)\))?\s*")


def label(given: str | Mapping[str, object]) -> str:
    """Return the label of an initializer: its one spelling, from a name, a label, or a mapping of name and parameters.

    The label leaves out parameters at their defaults, except those in the initializer's `always`.

    Raises:
        ValueError: if the initializer or a parameter is unknown, or a value is not allowed.

    >>> label({"name": "random_normal", "std": 0.01}), label("random_normal(std=0.05)")
    ('random_normal(std=0.01)', 'random_normal')
    """
    if isinstance(given, Mapping):
        if "name" not in given:
            raise ValueError(
                f"an initializer with parameters must look like {{name: random_normal, std: 0.01}}; got {given}"
            )
        parameters = {key: value for key, value in given.items() if key != "name"}
        return parameterized(str(given["name"]), parameters).name
    return named(given).name


def named(text: str) -> Initializer:
    """Return the initializer that a label means; the label becomes its name.

    Raises:
        ValueError: if the initializer or a parameter is unknown, or a value is not allowed.

    >>> named("random_normal(std=0.01)").law
    Normal(std=0.01)
    """
    name, parameters = pieces(text)
    return parameterized(name, {key: value(each) for key, each in parameters.items()})


def pieces(text: str) -> tuple[str, dict[str, str]]:
    """Return the name in a label, and its parameters as they are written.

    Raises:
        ValueError: if it is no label, or gives a parameter twice.

    >>> pieces("random_normal(std=max(0.1, 0.2))")
    ('random_normal', {'std': 'max(0.1, 0.2)'})
    """
    match = LABEL.fullmatch(text)
    if not match:
        hint = ". In a list, a label with a comma in it needs quotes" if text.count("(") != text.count(")") else ""
        raise ValueError(f"an initializer must look like he_normal or random_normal(std=0.01); got {text!r}{hint}")
    name, inside = match.groups()
    pairs = [pair.partition("=") for pair in _divided(inside or "") if pair.strip()]
    keys = [key.strip() for key, _, _ in pairs]
    if len({*keys}) < len(keys):
        raise ValueError(f"a parameter of an initializer must be given once; got {text!r}")
    return name, {key: value.strip() for key, (_, _, value) in zip(keys, pairs, strict=True)}


def _divided(text: str) -> list[str]:
    """Return the parts of a text between commas, but for commas within brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def parameterized(name: str, parameters: Mapping[str, object]) -> Initializer:
    """Return the initializer of this name, with parameters of its law set; its own name becomes a label.

    Raises:
        ValueError: if the initializer or a parameter is unknown, or a value is not allowed.
    """
    return _with(base(name), parameters)


def value(text: str) -> int | float | str:
    """Return the number that a text is, or the text.

    >>> value("2"), value("0.5"), value("fan_in")
    (2, 0.5, 'fan_in')
    """
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def base(name: str) -> Initializer:
    """Return the initializer of this name, with its parameters at their defaults.

    Raises:
        ValueError: if it is unknown, or the package that adds it does not hold it.
    """
    found = _registry().get(name)
    if found is None:
        raise ValueError(f"unknown initializer {name!r}; {choice(name, names())}")
    return found if isinstance(found, Initializer) else _load(found)


def _with(entry: Initializer, parameters: Mapping[str, object]) -> Initializer:
    """Return the initializer with parameters of its law set; its name gets those that differ from the defaults."""
    law = entry.law
    allowed = [field.name for field in fields(law)]  # type: ignore[arg-type]  # laws with parameters are dataclasses
    for key in parameters:
        if key not in allowed:
            known = choice(key, allowed) if allowed else "it has none"
            raise ValueError(f"{entry.name} has no parameter {key!r}; {known}")
    try:
        changed = replace(law, **parameters)  # type: ignore[type-var]
    except ValidationError as error:
        first, *others = error.errors()
        found = [first, *(each for each in others if each["loc"][0] == first["loc"][0])]
        raise ValueError(f"{entry.name}'s {first['loc'][0]}: {rule(found)}") from None
    for key in parameters:
        if isinstance(value := getattr(changed, key), int | float):
            try:
                held(value)
            except ValueError as error:
                raise ValueError(f"{entry.name}'s {key}: {error}; got {value:g}") from None
    differing = [
        f"{key}={str(getattr(changed, key)).removesuffix('.0')}"
        for key in allowed
        if key in entry.always or getattr(changed, key) != getattr(law, key)
    ]
    return replace(entry, law=changed, name=f"{entry.name}({', '.join(differing)})" if differing else entry.name)


def layerwise(label: str) -> Initializer:
    """Return the initializer of a label, if the frameworks draw from its law.

    Raises:
        ValueError: if the label is unknown, or the initializer needs a whole network, or NumPy to draw.
    """
    initializer = named(label)
    if not initializer.law.native:
        raise ValueError(f"{label} is not built by a framework, layer by layer; choose another initializer")
    return initializer


def bias_bound(initializer: Initializer, backend: Backend, fan_in: float) -> float:
    """Return b of the law U(±b) from which a framework's layer draws its biases by default; b = 0 means zeros.

    PyTorch's Linear draws biases from U(±1/√fan_in); Keras's Dense sets them to zero. Under `pytorch_default` and
    `keras_default` both backends take the biases of that framework.

    >>> bias_bound(named("he_normal"), "pytorch", fan_in=4)
    0.5
    >>> bias_bound(named("keras_default"), "pytorch", fan_in=4)
    0.0
    """
    return 1 / math.sqrt(fan_in) if fan_in and (initializer.default_of or backend) == "pytorch" else 0.0
