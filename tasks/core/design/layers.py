"""The weighted layers of a model: what their kernels compute, and the fans that follow from it.

A framework stores kernels in many shapes, and takes the fans of an initializer from the shape. That is wrong where the
shape does not tell the operation: for groups, strides, transposed convolutions, and parameters that hold several
kernels. Here each kind of layer says what its axes mean, and the fans are those of the operation.

Each backend has a table of the kinds that it knows, `KINDS`, and lists a model's layers by it.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.design.initializers import Identity, Law

ORDER = "gkio"  # the axes of `Kernel.matrices`: groups, taps, inputs, outputs


@dataclass(frozen=True)
class Place:
    """Where values lie: in a parameter of a layer, or in the part-th of so many equal parts along one of its axes."""

    parameter: str
    part: int = 0
    parts: int = 1
    axis: int = -1

    def view(self, array: Any) -> Any:
        """Return the part of an array or tensor, as a view.

        >>> Place("in_proj_bias", part=1, parts=3).view(np.arange(6))
        array([2, 3])
        """
        if self.parts == 1:
            return array  # which may have no axis at all
        index, size = [slice(None)] * len(array.shape), array.shape[self.axis] // self.parts
        index[self.axis] = slice(self.part * size, (self.part + 1) * size)
        return array[tuple(index)]


@dataclass(frozen=True)
class Kernel:
    """A kernel of a layer: how its array is laid out, and how the layer applies it.

    name: the kernel's name within the layer. place: where its array lies. shape: the array's shape, without the other
    parts of the parameter. axes: a word for each axis of the array, made of the letters i (inputs), o (outputs), g
    (groups) and k (a side of a convolution's kernel). `*` stands for as many k as there are axes left, and `go` for an
    axis that holds the outputs of one group after those of another. groups: the number of groups, if a word has two
    letters. strides, dilation, transposed: those of a convolution. lookup: whether an input selects a row, as in an
    embedding. bias: where the bias lies that is added to the outputs. offset: what the layer adds to the biases that a
    law gives, such as 1 for an LSTM's forget gate.
    """

    name: str
    place: Place
    shape: tuple[int, ...]
    axes: str
    groups: int = 1
    strides: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    transposed: bool = False
    lookup: bool = False
    bias: Place | None = None
    offset: float = 0.0

    @property
    def fan_in(self) -> float:
        """Return how many inputs one output sums over, away from borders.

        It is the product of a group's inputs and the kernel's sides. A transposed convolution spreads them over as many
        outputs as its strides' product s, so one output sums over the s-th part, on average.

        >>> Kernel("weight", Place("weight"), (512, 256, 4, 4), "gi o *", strides=(2, 2), transposed=True).fan_in
        2048.0
        """
        return 1.0 if self.lookup else self._size("ik") / (math.prod(self.strides) if self.transposed else 1)

    @property
    def fan_out(self) -> float:
        """Return to how many outputs one input goes, away from borders, on average.

        >>> Kernel("kernel", Place("kernel"), (3, 3, 64, 2), "* g o", strides=(2, 2)).fan_out  # depthwise
        4.5
        """
        return self._size("ok") / (1 if self.transposed else math.prod(self.strides))

    @property
    def whole(self) -> tuple[int, ...]:
        """Return the shape of the parameter in which the kernel lies.

        >>> Kernel("gates.f", Place("gates", 1, 4, axis=0), (2, 3), "o i").whole
        (8, 3)
        """
        shape = [*self.shape]
        shape[self.place.axis] *= self.place.parts
        return tuple(shape)

    @property
    def _split(self) -> list[tuple[str, int]]:
        """Return letter and size of each axis, after an axis of two letters is split in two."""
        words = self.axes.split()
        sides = ["k"] * (len(self.shape) - len(words) + 1)
        spelled = [each for word in words for each in (sides if word == "*" else [word])]
        sizes = zip(spelled, self.shape, strict=True)
        parts = [(word, (self.groups, size // self.groups) if len(word) > 1 else (size,)) for word, size in sizes]
        return [pair for word, split in parts for pair in zip(word, split, strict=True)]

    def _size(self, letters: str) -> int:
        return math.prod(size for letter, size in self._split if letter in letters)

    @property
    def _order(self) -> list[int]:
        return sorted(range(len(self._split)), key=lambda at: ORDER.index(self._split[at][0]))

    def matrices(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the kernel's array as (groups, taps, inputs, outputs), which is the same in every framework."""
        split = array.reshape([size for _, size in self._split])
        return split.transpose(self._order).reshape([self._size(letter) for letter in ORDER])

    def array(self, matrices: NDArray[Any]) -> NDArray[Any]:
        """Return matrices (groups, taps, inputs, outputs) in the layout of the kernel's array."""
        split = matrices.reshape([self._split[at][1] for at in self._order])
        return split.transpose(np.argsort(self._order)).reshape(self.shape)

    @property
    def phases(self) -> list[NDArray[np.intp]]:
        """Return the taps that meet in one output, for each kind of output.

        All taps meet, unless the convolution is a transposed one with strides: there those taps meet whose distance is
        a multiple of the stride.

        >>> Kernel("weight", Place("weight"), (2, 2, 4), "gi o *", strides=(2,), dilation=(1,), transposed=True).phases
        [array([0, 2]), array([1, 3])]
        """
        sides = [size for letter, size in self._split if letter == "k"]
        taps = np.indices(sides).reshape(len(sides), math.prod(sides)).T
        if not self.transposed:
            return [np.arange(len(taps))]
        _, kind = np.unique(taps * self.dilation % self.strides, axis=0, return_inverse=True)
        return [np.flatnonzero(kind == each) for each in range(kind.max() + 1)]

    def allows(self, law: Law, layer: str) -> None:
        """Check that a law can be drawn for the kernel of a layer.

        Raises:
            ValueError: if the law is the identity, and an output sums over several taps.
        """
        if isinstance(law, Identity) and any(len(phase) > 1 for phase in self.phases):
            raise ValueError(f"identity needs kernels that each output applies once; got {layer}, {self.shape}")

    def assembled(self, draw: Callable[[int, int], NDArray[Any]]) -> NDArray[Any]:
        """Return the array made of a matrix (inputs, outputs) for each group, and each phase of its taps.

        These are the matrices by which the layer multiplies. The inputs of all taps that meet are the matrix's inputs.
        """
        groups, taps, inputs, outputs = (self._size(letter) for letter in ORDER)
        result = np.empty((groups, taps, inputs, outputs), np.float32)
        for group, phase in product(range(groups), self.phases):
            result[group, phase] = draw(len(phase) * inputs, outputs).reshape(len(phase), inputs, outputs)
        return self.array(result)


def parts(
    layer: Any,
    axes: str,
    parameter: str,
    bias: str,
    names: Sequence[str],
    *,
    axis: int,
    offsets: Mapping[str, float] = MappingProxyType({}),
    **geometry: Any,
) -> list[Kernel]:
    """Return kernels that lie one after the other along an axis of a layer's parameter, as their biases do in theirs.

    bias: the name of the parameter of biases; the layer may have none. names: those of the kernels within the
    parameter, one empty name if it is a whole kernel. offsets: what the layer adds to the biases of some of them.
    geometry: the other fields of `Kernel`.
    """
    shape, count = [*getattr(layer, parameter).shape], len(names)
    shape[axis] //= count
    biased = getattr(layer, bias, None) is not None
    return [
        Kernel(
            f"{parameter}.{name}" if name else parameter,
            Place(parameter, at, count, axis),
            tuple(shape),
            axes,
            bias=Place(bias, at, count, axis) if biased else None,
            offset=offsets.get(name, 0.0),
            **geometry,
        )
        for at, name in enumerate(names)
    ]


@dataclass(frozen=True)
class Layer:
    """A layer with weights: its name in the model, its kind (the framework's class), and its kernels."""

    name: str
    kind: str
    kernels: tuple[Kernel, ...]

    @property
    def parameters(self) -> list[str]:
        """Return the parameters in which the kernels and their biases lie, each once."""
        places = [place for kernel in self.kernels for place in (kernel.place, kernel.bias) if place]
        return list(dict.fromkeys(place.parameter for place in places))


Claim = tuple[Layer, str, Sequence[object]]
"""A layer, one of its parameters by name, and the tensors in which the framework keeps the parameter."""


def owners(claims: Sequence[Claim]) -> dict[int, str]:
    """Return the name of the parameter that decides a tensor's law, by the tensor's id.

    If layers share a tensor, the layer of largest fan_in decides, and the first of several. An embedding has a fan_in
    of 1, so a law for it would be far too wide for a layer that sums over the same weights.
    """
    found: dict[int, str] = {}
    for _, name, tensors in sorted(claims, key=lambda claim: -max(kernel.fan_in for kernel in claim[0].kernels)):
        for tensor in tensors:
            found.setdefault(id(tensor), name)
    return found


def tied(claims: Iterable[Claim], owned: Mapping[int, str]) -> tuple[tuple[str, str], ...]:
    """Return (name, owner's name) for each parameter that follows the law of another layer."""
    found = ((name, owned[id(tensor)]) for _, name, tensors in claims for tensor in tensors)
    return tuple((name, owner) for name, owner in found if name != owner)


@dataclass(frozen=True)
class Layers:
    """The weighted layers of a model, and what an initializer does not decide.

    left: parameters of two or more dimensions that belong to no layer of a known kind, and so stay as built. tied:
    pairs of parameters that are one; the first follows the law of the second. notes: a sentence for each kernel whose
    values are not those that are drawn, because of a spectral norm or of pruning.
    """

    layers: tuple[Layer, ...]
    left: tuple[str, ...] = ()
    tied: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    def warn(self) -> None:
        """Warn of the parameters that are left as built, if there are any."""
        if self.left:
            text = f"no layer of a known kind has these parameters, which stay as built: {', '.join(self.left)}"
            warnings.warn(text, stacklevel=3)
