"""Train cells of a network of one's own, one by one, and draw the weights that each of them starts from.

A network of one's own may be random in training and keep a state, so its cells cannot be vectorised. Each cell trains
alone, with generators of its own, so that its numbers depend on its seed alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.design.grid import Cell
from tasks.core.design.initializers import (
    LSUV,
    AsBuilt,
    Identity,
    Initializer,
    Law,
    MeanField,
    Normal,
    Orthogonal,
    VarianceScaling,
    ZerO,
    bias_bound,
    named,
)
from tasks.core.design.layers import Kernel, Layer, Layers
from tasks.core.design.own import OwnNetwork
from tasks.core.design.rules import Rules
from tasks.core.design.settings import CellSettings
from tasks.core.training import bits, datasets, reference, seeds
from tasks.core.training.backend import Builder, Framework, OwnProgram, Size
from tasks.core.training.datasets import Dataset, Floats
from tasks.core.training.health import Signals
from tasks.core.training.meanfield import Theory
from tasks.core.training.outcome import Curves, Described, Outcome, Predictions, Trained
from tasks.core.training.reference import Clock

EXAMPLE_ROWS = 2  # on which a model is called once, to see in which order its layers are executed
Parameters = dict[tuple[str, str], Floats]
"""Values of parameters, by the name of their layer and their own."""


def train(
    framework: Framework,
    builder: Builder,
    settings: CellSettings,
    cell: Cell,
    rate: float,
    *,
    clock: Clock,
    processor: Clock | None = None,
) -> Outcome:
    """Train a cell of a network of one's own, and return its outcome.

    builder: what builds the model from the shape of a row and the number of outputs. rate: the learning rate.
    clock, processor: those of `batch.train`.
    """
    dataset, recipe = datasets.load(settings.dataset), settings.recipe
    fold = datasets.divide(dataset, settings.split, cell.seed)
    order = datasets.visits(
        len(fold.y_train), recipe.epochs, seeds.chosen(recipe.order_seed, cell.seed), shuffle=recipe.shuffle
    )
    program = started(framework, builder, settings, cell, dataset, fold.x_train)
    program.start(fold, rate, seeds.integer(seeds.stream(cell.seed, "noise")))
    untrained = bits.digests(program.variables())
    start, before = program.probe(), program.measure()
    (gradient,) = bits.of_cells(start.gradients, 1)
    program.run(order[:0])
    after, seconds, pace = reference.timed(lambda: program.run(order), 1, clock, processor)
    outputs, variables = program.outputs(), program.variables()
    scores = np.concatenate([before.scores, after.scores])[:, 0]
    layers = len(program.layers.layers)
    guess = float(np.log(dataset.classes)) if dataset.classes else 1.0
    return Outcome.of(
        cell,
        Trained(
            curves=Curves(*scores.T),
            predictions=Predictions.of(fold, outputs),
            weights=variables,
            signals=Signals.of(start, 0, unknown(layers), after.state[:, 0], after.flow[:, 0], guess),
            seconds=seconds,
            pace=pace,
            described=described(framework, program.layers, settings, cell.initializer),
            bits=bits.Bits(untrained, gradient, bits.digests(variables)),
        ),
    )


@dataclass(frozen=True)
class Examined:
    """What is known of a network of one's own before any cell of it trains.

    layers: its weighted layers; size: how large it is; described: what a record says of its layers, by initializer;
    checksum: of the data that the examining process has.
    """

    layers: Layers
    size: Size
    described: dict[str, Described]
    checksum: str


def examine(framework: Framework, builder: Builder, settings: CellSettings, cells: Sequence[Cell]) -> Examined:
    """Return what is known of a network, after a check that cells of it can be drawn: one cell for each initializer.

    Raises:
        ValueError: if the builder, what it builds, a rule or an initializer does not fit.
    """
    dataset = datasets.load(settings.dataset)
    fold = datasets.divide(dataset, settings.split, cells[0].seed)
    rows, size = len(fold.y_train), settings.recipe.batch_size
    if size != "full" and rows < size:
        raise ValueError(f"recipe.batch_size must be at most the number of train rows, {rows}; got {size}")
    program = framework.own(builder, settings, dataset.problem)
    told = {}
    for at, cell in enumerate(cells):
        program.build(at, fold.x_train[:EXAMPLE_ROWS])
        drawn(framework, program, settings, cell)
        told[cell.initializer] = described(framework, program.layers, settings, cell.initializer)
    program.build(len(cells), fold.x_train[:EXAMPLE_ROWS])  # so that there are two seeds, also with one initializer
    return Examined(program.layers, program.size, told, dataset.checksum)


def drawn(framework: Framework, program: OwnProgram, settings: CellSettings, cell: Cell) -> "Drawing":
    """Draw the parameters of a model that is built, and write them; return how they were drawn."""
    network = own(settings)
    network.laws.check(program.names)
    seed = seeds.chosen(network.weights_seed, cell.seed)
    drawing = Drawing(framework, program, network.laws, named(cell.initializer), settings.weights == "native", seed)
    program.put(drawing.parameters())
    return drawing


def unknown(layers: int) -> Theory:
    """Return the theory of a network for which there is none: NaN in every layer."""
    hidden = np.full(max(layers - 1, 0), np.nan)
    return Theory(np.full(layers, np.nan), hidden, hidden)


def started(
    framework: Framework, builder: Builder, settings: CellSettings, cell: Cell, dataset: Dataset, x_train: NDArray[Any]
) -> OwnProgram:
    """Return a program that holds the initial weights of a cell: as built under its seed, then drawn by its laws."""
    seed = seeds.chosen(own(settings).weights_seed, cell.seed)
    program = framework.own(builder, settings, dataset.problem)
    program.build(seeds.integer(seeds.stream(seed, "built")), x_train[:EXAMPLE_ROWS])
    if rescaled := drawn(framework, program, settings, cell).rescaled:
        program.rescale(rescaled, x_train)
    return program


def own(settings: CellSettings) -> OwnNetwork:
    """Return the network of one's own that settings ask for.

    Raises:
        TypeError: if it is a perceptron.
    """
    if settings.own is None:
        raise TypeError("this is for networks of one's own")
    return settings.own


@dataclass(frozen=True)
class Drawing:
    """How the parameters of a model are drawn: by which laws, in which way, from which seed.

    native: whether the framework's own function draws where it can, with its own idea of the fans.
    """

    framework: Framework
    program: OwnProgram
    rules: Rules
    initializer: Initializer
    native: bool
    seed: int

    def entry(self, layer: Layer, kernel: Kernel) -> Initializer:
        """Return the initializer of a kernel: that of the first rule that matches, or the cell's."""
        label = self.rules.of(self.program.names_of(layer, kernel))
        return self.rules.law(label, kernel.fan_in, kernel.fan_out) if label else self.initializer

    @property
    def rescaled(self) -> list[str]:
        """The layers that LSUV rescales: those of one kernel, whose outputs grow as the kernel does."""
        return [
            layer.name
            for layer in self.program.layers.layers
            if len(layer.kernels) == 1 and isinstance(self.entry(layer, layer.kernels[0]).law, LSUV)
        ]

    def parameters(self) -> Parameters:
        """Draw all parameters that a law decides; those as built are left out, and so are those of another layer."""
        drawn: Parameters = {}
        tied = {name for name, _ in self.program.layers.tied}
        for at, layer in enumerate(self.program.layers.layers):
            entries = {kernel.name: self.entry(layer, kernel) for kernel in layer.kernels}
            for name in layer.parameters:
                if self.program.path(layer.name, name) not in tied and self._any(layer, name, entries):
                    drawn[layer.name, name] = self._parameter(at, layer, name, entries)
        return drawn | self._left()

    def _any(self, layer: Layer, name: str, entries: Mapping[str, Initializer]) -> bool:
        """Tell whether a law decides something in a parameter."""
        inside = [each for each in layer.kernels if name in (each.place.parameter, each.bias and each.bias.parameter)]
        return any(not isinstance(entries[kernel.name].law, AsBuilt) for kernel in inside)

    def _parameter(self, at: int, layer: Layer, name: str, entries: Mapping[str, Initializer]) -> Floats:
        """Draw one parameter of the layer at a place: kernels or biases, or both in turn."""
        value = self.program.read(layer.name, name)
        kernels = [kernel for kernel in layer.kernels if kernel.place.parameter == name]
        laws = {entries[kernel.name].law for kernel in kernels}
        if len(laws) == 1 and self.native and _as_a_whole(law := laws.pop()):
            stream = seeds.stream(self.seed, "weights", at, layer.parameters.index(name))
            fans = self.framework.counted(kernels[0], layer.kind)
            return self.framework.native_array(law, value.shape, fans, seeds.integer(stream))
        for number, kernel in enumerate(layer.kernels):
            entry = entries[kernel.name]
            if isinstance(entry.law, AsBuilt):
                continue
            streams = [np.random.default_rng(seeds.stream(self.seed, "weights", at, number, part)) for part in (0, 1)]
            if kernel.place.parameter == name:
                kernel.allows(entry.law, layer.name)
                kernel.place.view(value)[...] = _kernel(kernel, entry.law, streams[0])
            if kernel.bias and kernel.bias.parameter == name:
                view = kernel.bias.view(value)
                offset = kernel.offset if self.native else 0.0  # shared weights are the same in both backends
                view[...] = _bias(entry, kernel, view.shape, streams[1]) + offset
        return value

    def _left(self) -> Parameters:
        """Draw the parameters that belong to no layer, where a rule names them."""
        drawn: Parameters = {}
        for at, name in enumerate(self.program.layers.left):
            label = self.rules.of([name])
            if label is None or isinstance(law := self.rules.law(label, np.nan, np.nan).law, AsBuilt):
                continue
            if law.without_fans(1, 1) is not law or isinstance(law, Orthogonal | Identity | LSUV | ZerO):
                raise ValueError(f"network.rules: {name} belongs to no layer, so it has no fans for {label}")
            value = self.program.read("", name)
            rng = np.random.default_rng(seeds.stream(self.seed, "weights", len(self.program.layers.layers) + at))
            drawn["", name] = law.draw(value.size, 1, rng=rng).reshape(value.shape).astype(np.float32)
        return drawn


def _as_a_whole(law: Law) -> bool:
    """Tell whether a framework's own function draws a whole parameter by a law."""
    return law.native and not isinstance(law, Identity | MeanField)


def _kernel(kernel: Kernel, law: Law, rng: np.random.Generator) -> Floats:
    """Draw a kernel with the fans of its operation; a law of matrices draws each of its matrices by itself."""
    if isinstance(law, Orthogonal | Identity | LSUV | ZerO):
        return kernel.assembled(lambda fan_in, fan_out: law.draw(fan_in, fan_out, rng=rng))
    shape = kernel.matrices(np.empty(kernel.shape, np.float32)).shape
    free = law.without_fans(kernel.fan_in, kernel.fan_out)
    return kernel.array(free.draw(int(np.prod(shape[:-1])), shape[-1], rng=rng).reshape(shape)).astype(np.float32)


def _bias(entry: Initializer, kernel: Kernel, shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """Draw biases: zeros, or what comes with the law."""
    if entry.law.bias_std:
        return Normal(entry.law.bias_std).draw(int(np.prod(shape)), 1, rng=rng).reshape(shape).astype(np.float32)
    bound = bias_bound(entry, "keras", kernel.fan_in)  # as Keras has them: zeros, but with pytorch_default
    return rng.uniform(-bound, bound, shape).astype(np.float32)


def described(framework: Framework, found: Layers, settings: CellSettings, label: str) -> Described:
    """Return what a cell's record says of its layers."""
    return Described(
        names=tuple(layer.name for layer in found.layers),
        kinds=tuple(layer.kind for layer in found.layers),
        fan_in=tuple(layer.kernels[0].fan_in for layer in found.layers),
        fan_out=tuple(layer.kernels[0].fan_out for layer in found.layers),
        native_factor=tuple(_factor(framework, layer, settings, named(label)) for layer in found.layers),
        left=found.left,
    )


def _factor(framework: Framework, layer: Layer, settings: CellSettings, entry: Initializer) -> float:
    """Return native variance over the law's variance, of the layer's kernel in which they differ most."""
    if settings.weights != "native" or not isinstance(law := entry.law, VarianceScaling):
        return 1.0
    factors = [1.0]
    for kernel in layer.kernels:
        counted = framework.counted(kernel, layer.kind)
        factors.append(law.std(*counted) ** 2 / law.std(kernel.fan_in, kernel.fan_out) ** 2)
    return max(factors, key=lambda factor: abs(np.log(factor)))
