"""The weight initializers: each a law with its formula, registered once for every backend.

A law says how weights are distributed. A backend builds it with its own framework's function (`native`
weights), or `draw` makes one NumPy array that is copied into both (`shared` weights). The two differ for the
normal laws of the variance-scaling family: Keras cuts them at two standard deviations, PyTorch does not.
Kernels are written (fan_in, fan_out), as Keras stores them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

if TYPE_CHECKING:
    from scipy.stats.distributions import rv_frozen

Backend = Literal["pytorch", "keras"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)

CUT = 2.0  # truncated normals are cut at this many standard deviations
TRUNCATION = 0.87962566103423978  # standard deviation of N(0, 1) cut at ±CUT
SMALL = 0.05  # Keras's default standard deviation and half-width, used in both backends

Mode = Literal["fan_in", "fan_avg"]


@dataclass(frozen=True)
class VarianceScaling:
    """Weights of variance scale / n, n being fan_in or the mean of fan_in and fan_out by `mode`.

    Glorot & Bengio (2010): scale 1, fan_avg. He et al. (2015): scale 2, fan_in. LeCun et al. (1998): scale 1, fan_in.
    """

    scale: float
    mode: Mode
    shape: Literal["normal", "uniform"]

    def std(self, fan_in: int, fan_out: int) -> float:
        """Return the standard deviation, sqrt(scale / n).

        >>> VarianceScaling(2, "fan_in", "normal").std(fan_in=8, fan_out=4)
        0.5
        """
        return math.sqrt(self.scale / (fan_in if self.mode == "fan_in" else (fan_in + fan_out) / 2))

    def distribution(self, fan_in: int, fan_out: int, *, cut: bool) -> rv_frozen:
        """Return the law of one weight; `cut` asks for the truncated normal, rescaled to the same variance."""
        from scipy import stats

        std = self.std(fan_in, fan_out)
        if self.shape == "uniform":
            bound = math.sqrt(3) * std
            return stats.uniform(-bound, 2 * bound)
        return stats.truncnorm(-CUT, CUT, scale=std / TRUNCATION) if cut else stats.norm(0, std)

    def draw(self, fan_in: int, fan_out: int, *, rng: np.random.Generator) -> np.ndarray:
        """Draw a kernel of shape (fan_in, fan_out); a normal law is drawn uncut, as its papers write it."""
        std = self.std(fan_in, fan_out)
        if self.shape == "uniform":
            bound = math.sqrt(3) * std
            return rng.uniform(-bound, bound, (fan_in, fan_out))
        return rng.normal(0, std, (fan_in, fan_out))


@dataclass(frozen=True)
class Normal:
    """Weights from N(0, std²), whatever the fans."""

    std: float

    def distribution(self, fan_in: int, fan_out: int, *, cut: bool) -> rv_frozen:
        """Return the law of one weight."""
        from scipy import stats

        return stats.norm(0, self.std)

    def draw(self, fan_in: int, fan_out: int, *, rng: np.random.Generator) -> np.ndarray:
        """Draw a kernel of shape (fan_in, fan_out)."""
        return rng.normal(0, self.std, (fan_in, fan_out))


@dataclass(frozen=True)
class TruncatedNormal:
    """Weights from N(0, std²) redrawn beyond ±2 std; their own standard deviation is TRUNCATION * std."""

    std: float

    def distribution(self, fan_in: int, fan_out: int, *, cut: bool) -> rv_frozen:
        """Return the law of one weight."""
        from scipy import stats

        return stats.truncnorm(-CUT, CUT, scale=self.std)

    def draw(self, fan_in: int, fan_out: int, *, rng: np.random.Generator) -> np.ndarray:
        """Draw a kernel of shape (fan_in, fan_out)."""
        from scipy import stats

        return np.asarray(stats.truncnorm.rvs(-CUT, CUT, scale=self.std, size=(fan_in, fan_out), random_state=rng))


@dataclass(frozen=True)
class Uniform:
    """Weights from U[-bound, bound], whatever the fans."""

    bound: float

    def distribution(self, fan_in: int, fan_out: int, *, cut: bool) -> rv_frozen:
        """Return the law of one weight."""
        from scipy import stats

        return stats.uniform(-self.bound, 2 * self.bound)

    def draw(self, fan_in: int, fan_out: int, *, rng: np.random.Generator) -> np.ndarray:
        """Draw a kernel of shape (fan_in, fan_out)."""
        return rng.uniform(-self.bound, self.bound, (fan_in, fan_out))


@dataclass(frozen=True)
class Orthogonal:
    """Kernels with orthonormal rows or columns, uniform over all of them (Haar; Saxe et al., 2014)."""

    def distribution(self, fan_in: int, fan_out: int, *, cut: bool) -> rv_frozen:
        """Return the law of one weight: a coordinate of a random unit vector in max(fan_in, fan_out) dimensions."""
        from scipy import stats

        half = (max(fan_in, fan_out) - 1) / 2
        return stats.beta(half, half, loc=-1, scale=2)

    def draw(self, fan_in: int, fan_out: int, *, rng: np.random.Generator) -> np.ndarray:
        """Draw a kernel of shape (fan_in, fan_out)."""
        long, short = max(fan_in, fan_out), min(fan_in, fan_out)
        q, r = np.linalg.qr(rng.normal(size=(long, short)))
        q = q * np.sign(np.diag(r))  # without this, QR's sign convention spoils the uniform law (Mezzadri, 2007)
        return q if fan_in >= fan_out else q.T


@dataclass(frozen=True)
class Identity:
    """Kernels with ones on the main diagonal and zeros elsewhere."""

    def draw(self, fan_in: int, fan_out: int, *, rng: np.random.Generator) -> np.ndarray:
        """Return the kernel of shape (fan_in, fan_out); nothing is drawn."""
        return np.eye(fan_in, fan_out)


@dataclass(frozen=True)
class Constant:
    """Every weight the same, so every unit of a layer computes the same: nothing breaks the symmetry."""

    value: float

    def draw(self, fan_in: int, fan_out: int, *, rng: np.random.Generator) -> np.ndarray:
        """Return the kernel of shape (fan_in, fan_out); nothing is drawn."""
        return np.full((fan_in, fan_out), self.value)


RandomLaw = VarianceScaling | Normal | TruncatedNormal | Uniform | Orthogonal
Law = RandomLaw | Identity | Constant


@dataclass(frozen=True)
class Initializer:
    """A named law. `default_of` names the framework whose Dense or Linear layer starts its kernel this way."""

    name: str
    law: Law
    formula: str
    default_of: Backend | None = None


INITIALIZERS = {
    entry.name: entry
    for entry in (
        Initializer("glorot_normal", VarianceScaling(1, "fan_avg", "normal"), "N(0, 2/(fan_in + fan_out))"),
        Initializer("glorot_uniform", VarianceScaling(1, "fan_avg", "uniform"), "U(±√(6/(fan_in + fan_out)))"),
        Initializer("he_normal", VarianceScaling(2, "fan_in", "normal"), "N(0, 2/fan_in)"),
        Initializer("he_uniform", VarianceScaling(2, "fan_in", "uniform"), "U(±√(6/fan_in))"),
        Initializer("lecun_normal", VarianceScaling(1, "fan_in", "normal"), "N(0, 1/fan_in)"),
        Initializer("lecun_uniform", VarianceScaling(1, "fan_in", "uniform"), "U(±√(3/fan_in))"),
        Initializer("orthogonal", Orthogonal(), "Haar: WᵀW = I or WWᵀ = I"),
        Initializer("random_uniform", Uniform(SMALL), f"U(±{SMALL})"),
        Initializer("random_normal", Normal(SMALL), f"N(0, {SMALL}²)"),
        Initializer("truncated_normal", TruncatedNormal(SMALL), f"N(0, {SMALL}²) cut at ±{CUT * SMALL}"),
        Initializer("identity", Identity(), "W = I"),
        Initializer("zeros", Constant(0), "W = 0"),
        Initializer("ones", Constant(1), "W = 1"),
        Initializer("constant", Constant(SMALL), f"W = {SMALL}"),
        Initializer("pytorch_default", VarianceScaling(1 / 3, "fan_in", "uniform"), "U(±1/√fan_in)", "pytorch"),
        Initializer("keras_default", VarianceScaling(1, "fan_avg", "uniform"), "U(±√(6/(fan_in + fan_out)))", "keras"),
    )
}

NATIVE_CUT: dict[Backend, bool] = {"pytorch": False, "keras": True}
"""Whether a framework's own variance-scaling normals are truncated."""


def known(name: str) -> str:
    """Return the name if an initializer has it.

    Raises:
        ValueError: if none has.
    """
    if name not in INITIALIZERS:
        raise ValueError(f"unknown initializer {name!r}; choose one of {', '.join(INITIALIZERS)}")
    return name


def bias_bound(initializer: Initializer, backend: Backend, fan_in: int) -> float:
    """Return b of the bias law U(±b) that comes with a framework's default layer; 0 is zeros.

    PyTorch's Linear draws biases from U(±1/√fan_in), Keras's Dense starts them at zero. An initializer that is a
    framework's default brings that framework's biases to either backend.

    >>> bias_bound(INITIALIZERS["he_normal"], "pytorch", fan_in=4)
    0.5
    >>> bias_bound(INITIALIZERS["keras_default"], "pytorch", fan_in=4)
    0.0
    """
    return 1 / math.sqrt(fan_in) if (initializer.default_of or backend) == "pytorch" else 0.0
