"""What an audit sees of a model: its parameters part by part, over several seeds, and its first pass.

A backend builds the model and reads it (`Auditable`); `look` builds it under every seed and keeps of each part a sample
of its values, with facts that need all of them. A part is a kernel of a layer (one gate, or one of q, k, v), a layer's
biases, or any other parameter.
"""

import hashlib
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from tasks.core.audit.matrices import alike, extremes, identity
from tasks.core.design.initializers import Backend
from tasks.core.design.layers import Kernel, Layer, Layers, Place
from tasks.core.training.signals import Start

SEEDS = 5  # models that are built, unless the caller says otherwise
ROOTS: dict[str, Backend] = {"torch": "pytorch", "keras": "keras", "tensorflow": "keras"}
"""By the package of its class, the backend that a model is for."""
EXACT = ("float32", "float64")  # types in which a draw hardly ever gives a value twice
SAMPLED = 4096  # values of a part that are kept under each seed; a part of 64 × 64 is kept whole
Role = Literal["kernel", "embedding", "bias", "other"]
Floats = NDArray[Any]
Fans = tuple[float, float]


def error_of_std(kurtosis: float, count: int) -> float:
    """Return the relative standard error of the standard deviation of so many values, √((kurtosis - 1) / 4 count).

    >>> error_of_std(3.0, 5000)
    0.01
    """
    return math.sqrt(max(kurtosis - 1, 0) / (4 * max(count, 1)))


@dataclass(frozen=True)
class Spread:
    """The smallest and the largest singular value of matrices, and how many a matrix has at least."""

    smallest: float
    largest: float
    rank: int


@dataclass(frozen=True)
class Part:
    """A part of a parameter, as it was seen under several seeds.

    name: of the part in the model. parameter: the name of the parameter that it lies in. layer: the name of its layer,
    and kind the framework's class of it. shape: of the part; dtype: as the framework calls it. parts: how many parts
    the parameter has. fans: of the operation; unstrided: the same, as if a convolution had no strides, because
    initializers leave these out by custom; counted: as the framework counts them from the array. None for what has no
    fans. values: (seeds, at most SAMPLED). mean, std, kurtosis (3 for a normal law), least, most: of all finite values.
    bad: how many values are NaN or infinite. zeros: the share of values that are zero. digests: by seed, a hash of all
    values; again: the hash when the first seed builds once more. spread: singular values of the matrices that the layer
    multiplies by, whole: those of the whole parameter as a matrix. identity: the factor of a partial identity, if it is
    one. alike: whether all outputs have the same weights. units: of a recurrent layer's state. cut:
    how far from the mean its values were cut when they were drawn, if that was seen. drawn: where its parameter was
    drawn, apart from the layer's first default, if that was seen. frozen: whether training leaves it
    as it is.
    """

    name: str
    parameter: str
    layer: str
    kind: str
    role: Role
    shape: tuple[int, ...]
    dtype: str
    parts: int = 1
    fans: Fans | None = None
    unstrided: Fans | None = None
    counted: Fans | None = None
    values: Floats = field(default_factory=lambda: np.zeros((1, 0)), repr=False)
    mean: float = 0.0
    std: float = 0.0
    kurtosis: float = 3.0
    least: float = 0.0
    most: float = 0.0
    bad: int = 0
    zeros: float = 0.0
    digests: tuple[str, ...] = ()
    again: str = ""
    spread: Spread | None = None
    whole: Spread | None = None
    identity: float | None = None
    alike: bool = False
    transposed: bool = False
    groups: int = 1
    units: int = 0
    cut: float | None = None
    drawn: tuple[str, ...] = ()
    frozen: bool = False

    @property
    def size(self) -> int:
        """How many numbers the part has."""
        return int(np.prod(self.shape))

    @property
    def operation(self) -> Fans:
        """The fans of the operation without strides; NaN if there are none."""
        return self.unstrided or (np.nan, np.nan)

    @property
    def array(self) -> Fans:
        """The fans as the framework counts them from the array; NaN if there are none."""
        return self.counted or (np.nan, np.nan)

    @property
    def sampled(self) -> bool:
        """Whether the values are a sample of the part."""
        return bool(self.values.shape[1] < self.size)

    @property
    def constant(self) -> bool:
        """Whether all values are equal, under every seed."""
        return self.bad == 0 and bool(self.least == self.most)

    @property
    def fixed(self) -> bool:
        """Whether every seed gives the same values."""
        return self.draws == 1

    @property
    def draws(self) -> int:
        """How many of the seeds gave values of their own."""
        return len({*self.digests})

    @property
    def repeats(self) -> bool:
        """Whether values occur more often than in a draw of a law, as in a table or a mask."""
        return self.dtype in EXACT and 2 * np.unique(self.values[0]).size < self.values.shape[1]

    @property
    def names(self) -> list[str]:
        """The names by which a rule can mean the part: a layer's name means its kernels."""
        return [*([self.layer] if self.role in ("kernel", "embedding") else []), self.parameter, self.name]


@dataclass(frozen=True)
class FirstPass:
    """The first forward and backward pass, on the model of the first seed.

    inputs: what the rows are, in words. layers: the names of the weighted layers in order of execution. start: the
    signals of each. guess: the loss of a guess. blocks: name, variance of the outputs, and variance of the loss's
    gradient in these, of each repeated block. note: why there is no pass, if there is none.
    """

    inputs: str = ""
    layers: tuple[str, ...] = ()
    start: Start | None = None
    guess: float = 1.0
    blocks: tuple[tuple[str, float, float], ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Seen:
    """All that was seen of a model. tied: pairs of parameters that are one, of which the second decides the law."""

    backend: Backend
    version: str
    seeds: int
    parts: tuple[Part, ...]
    tied: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    first: FirstPass = FirstPass()


@dataclass(frozen=True)
class Target:
    """What is to be looked at: what builds the model, by reference or itself, and what it is given.

    options: arguments by name. shape: that of a row, if no data say so. load: a function that returns data.
    """

    build: str | Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] | None = None
    load: str | None = None
    seeds: int = SEEDS

    @property
    def name(self) -> str:
        """How the target is called in reports."""
        return self.build if isinstance(self.build, str) else getattr(self.build, "__qualname__", repr(self.build))


class OtherBackendError(ValueError):
    """A builder has returned a model of another framework than the process holds."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self.backend = backend


def refuse(backend: Backend, wanted: str, model: object) -> None:
    """Refuse what a builder has returned in place of a model that is wanted.

    Raises:
        OtherBackendError: if it is a model of another framework.
        ValueError: if it is none.
    """
    roots = {base.__module__.partition(".")[0] for base in type(model).__mro__}
    other = next((other for root, other in ROOTS.items() if root in roots and other != backend), None)
    if other:
        raise OtherBackendError(other)
    raise ValueError(f"a builder must return a {wanted}; it returned {type(model).__name__}")


class Auditable(Protocol):
    """A model that can be built again and again; what a backend offers for an audit."""

    backend: Backend
    version: str
    layers: Layers
    others: Mapping[str, str]
    """Of each parameter that belongs to no weighted layer, the kind of what holds it, by the parameter's name."""
    skipped: Sequence[str]
    """What is left out, in words."""
    cuts: Mapping[str, float]
    """How far from the mean parameters were cut when they were drawn, by name, as far as that is seen."""
    places: Mapping[str, Sequence[str]]
    """Where parameters were drawn, by name, in order, apart from a layer's first default, as far as that is seen."""
    frozen: Collection[str]
    """The names of parameters that training leaves as they are."""

    def build(self, seed: int) -> None:
        """Build the model under a seed and list what is in it.

        Raises:
            ValueError: if what is built is no model, or has no parameters that can be read.
        """

    def path(self, layer: str, parameter: str) -> str:
        """Return the name of a layer's parameter in the whole model."""

    def read(self, layer: str, parameter: str) -> tuple[Floats, str]:
        """Return a parameter's array and the name of its type; the layer of a parameter without one is empty."""

    def counted(self, kernel: Kernel, kind: str) -> Fans:
        """Return the fans that the framework takes for the parameter of a kernel."""

    def first_pass(self) -> FirstPass:
        """Return what the first pass shows of the model that was built last."""


@dataclass(frozen=True)
class _Spot:
    """Where a part lies, and what is known of it before its values are read."""

    part: Part
    layer: str
    place: Place
    kernel: Kernel | None = None

    def view(self, array: Floats) -> Floats:
        found: Floats = self.place.view(array)
        return found


def look(model: Auditable, seeds: int = SEEDS) -> Seen:
    """Build a model under each seed, and once more under the first; return what was seen.

    One model is held at a time, beside a sample of its values and a running count of their moments.

    Raises:
        ValueError: if the model cannot be built, or has another shape under another seed.
    """
    model.build(0)
    spots = list(_spots(model))
    gathered = [_Gathered(spot) for spot in spots]
    if not gathered:
        raise ValueError("a model must have parameters of real numbers; it has none")
    _read(model, gathered)
    first = model.first_pass()
    found, frozen = (model.layers, tuple(model.skipped)), {*model.frozen}
    cuts, places = dict(model.cuts), dict(model.places)
    for seed in range(1, seeds):
        model.build(seed)
        _same(model, spots)
        _read(model, gathered)
    model.build(0)
    again = {spot.part.name: _digest(spot.view(model.read(spot.layer, spot.place.parameter)[0])) for spot in spots}
    parts = tuple(
        replace(
            each.part(again[each.spot.part.name]),
            cut=cuts.get(each.spot.part.parameter),
            drawn=tuple(places.get(each.spot.part.parameter, ())),
            frozen=each.spot.part.parameter in frozen,
        )
        for each in gathered
    )
    notes = (*found[0].notes, *found[1])
    return Seen(model.backend, model.version, seeds, parts, found[0].tied, notes, first)


def _same(model: Auditable, spots: Sequence[_Spot]) -> None:
    now = {spot.part.name: spot.part.shape for spot in _spots(model)}
    before = {spot.part.name: spot.part.shape for spot in spots}
    if now != before:
        differing = sorted({*now.items()} ^ {*before.items()})[0][0]
        raise ValueError(f"a builder must build the same shapes under every seed; {differing} differs")


def _read(model: Auditable, gathered: Sequence["_Gathered"]) -> None:
    """Read every part of the model that is built; of a parameter with several parts the array is read once."""
    key, array = ("", ""), np.zeros(0)
    for each in gathered:
        wanted = each.spot.layer, each.spot.place.parameter
        if wanted != key:
            key, array = wanted, model.read(*wanted)[0]
        each.take(array)


def _spots(model: Auditable) -> Iterator[_Spot]:
    """Yield the parts of a model: kernels and biases of each layer, then what belongs to no layer."""
    tied = {name for name, _ in model.layers.tied}
    for layer in model.layers.layers:
        places: dict[Place, Kernel] = {}
        for kernel in layer.kernels:
            path = model.path(layer.name, kernel.place.parameter)
            if path not in tied:
                yield _kernel(model, layer, kernel, path)
            if kernel.bias is not None:
                places.setdefault(kernel.bias, kernel)
        for place, kernel in places.items():
            path = model.path(layer.name, place.parameter)
            if path in tied:
                continue
            array, dtype = model.read(layer.name, place.parameter)
            name = f"{path}.{kernel.name.rpartition('.')[2]}" if place.parts > 1 else path
            part = Part(name, path, layer.name, layer.kind, "bias", tuple(place.view(array).shape), dtype, place.parts)
            part = replace(part, counted=model.counted(kernel, layer.kind), units=part.size)
            yield _Spot(part, layer.name, place)
    for name, kind in model.others.items():
        array, dtype = model.read("", name)
        yield _Spot(Part(name, name, "", kind, "other", tuple(array.shape), dtype), "", Place(name, axis=0))


def _kernel(model: Auditable, layer: Layer, kernel: Kernel, path: str) -> _Spot:
    plain = kernel if kernel.transposed else replace(kernel, strides=())
    part = Part(
        name=model.path(layer.name, kernel.name),
        parameter=path,
        layer=layer.name,
        kind=layer.kind,
        role="embedding" if kernel.lookup else "kernel",
        shape=kernel.shape,
        dtype=model.read(layer.name, kernel.place.parameter)[1],
        parts=kernel.place.parts,
        fans=(kernel.fan_in, kernel.fan_out),
        unstrided=(plain.fan_in, plain.fan_out),
        counted=model.counted(kernel, layer.kind),
        transposed=kernel.transposed,
        units=kernel.shape[kernel.place.axis],
        groups=kernel.matrices(np.broadcast_to(np.float32(0), kernel.shape)).shape[0],
    )
    return _Spot(part, layer.name, kernel.place, kernel)


def _digest(array: Floats) -> str:
    return hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=12).hexdigest()


class _Gathered:
    """What is kept of a part while models come and go: sums of powers around the first model's mean, and a sample."""

    def __init__(self, spot: _Spot) -> None:
        self.spot = spot
        size = spot.part.size
        rng = np.random.default_rng(0)  # which values are looked at; the same under every seed
        self.chosen = np.sort(rng.choice(size, SAMPLED, replace=False)) if size > SAMPLED else None
        self.rows: list[Floats] = []
        self.digests: list[str] = []
        self.sums, self.count, self.bad, self.zeros = np.zeros(4), 0, 0, 0
        self.least, self.most = np.inf, -np.inf
        self.centre: float | None = None
        self.facts: dict[str, Any] = {}

    def take(self, whole: Floats) -> None:
        """Look at the part's values in the model of one seed."""
        array = self.spot.view(whole)
        self.digests.append(_digest(array))
        flat = array.reshape(-1)
        self.rows.append(np.array(flat if self.chosen is None else flat[self.chosen], dtype=np.float64))
        good = flat if np.isfinite(flat).all() else flat[np.isfinite(flat)]
        self.bad += flat.size - good.size
        self.zeros += int((good == 0).sum())
        if good.size:
            self.least, self.most = min(self.least, float(good.min())), max(self.most, float(good.max()))
            self._count(good)
        if not self.facts:
            self.facts = _facts(self.spot.kernel, array, whole)

    def _count(self, good: Floats) -> None:
        if self.centre is None:
            self.centre = float(good.mean(dtype=np.float64))
        for start in range(0, good.size, 2**20):  # so that no copy in float64 is as large as the parameter
            away = good[start : start + 2**20].astype(np.float64) - self.centre
            square = away * away
            self.sums += away.sum(), square.sum(), (square * away).sum(), (square * square).sum()
        self.count += good.size

    def part(self, again: str) -> Part:
        """Return the part, with all that was seen."""
        first, second, third, fourth = self.sums / max(self.count, 1)
        variance = max(second - first**2, 0.0)
        if self.most <= self.least:
            variance = 0.0  # but for rounding
        central = fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4
        return replace(
            self.spot.part,
            values=np.stack(self.rows),
            mean=(self.centre or 0.0) + float(first),
            std=float(np.sqrt(variance)),
            kurtosis=float(central / variance**2) if variance else 3.0,
            least=self.least,
            most=self.most,
            bad=self.bad,
            zeros=self.zeros / max(self.count, 1),
            digests=tuple(self.digests),
            again=again,
            **self.facts,
        )


def _facts(kernel: Kernel | None, array: Floats, whole: Floats) -> dict[str, Any]:
    """Return what the matrices of a kernel show, under the first seed."""
    if kernel is None or not np.isfinite(array).all() or array.size == 0:
        return {"alike": False}
    matrices = kernel.matrices(array.astype(np.float32))
    joined = [
        group[phase].reshape(-1, group.shape[-1]) for group in matrices for phase in kernel.phases
    ]  # (inputs, outputs) of each
    found = extremes(joined)
    flat = whole.reshape(whole.shape[0], -1) if kernel.place.axis == 0 else whole.reshape(-1, whole.shape[-1])
    around = extremes([flat.astype(np.float32)])
    if around and around[1] - around[0] < 1e-2 * around[1] and found is None:
        found = extremes(joined, always=True)
    return {
        "alike": alike(matrices),
        "identity": identity(joined),
        "spread": Spread(*found) if found else None,
        "whole": Spread(*around) if around else None,
    }
