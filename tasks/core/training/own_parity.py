"""The parity gate of networks of one's own: from equal weights, two builders must compute the same.

It applies where a study has both backends and shared weights. Layers then match one to one, and NumPy draws for both.
The network and twins, whose weights differ from its own in the last bit, train for a few steps, as in `parity.py`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.core.design.grid import Cell
from tasks.core.design.initializers import Backend
from tasks.core.design.layers import Kernel, Layer
from tasks.core.training import datasets, own, seeds
from tasks.core.training.backend import Builder, Framework, OwnProgram
from tasks.core.training.datasets import Floats
from tasks.core.training.own import Examined
from tasks.core.training.parity import ADAM, Level, Trace, aligned, allowed, short_order

TWINS = 3  # fewer than of a perceptron, because they train one by one
TRAINED = ("losses", "outputs")  # what the rounding of Adam's step size moves
ALIKE = {"Dense": "Linear", "EinsumDense": "Linear", "LSTMCell": "LSTM", "GRUCell": "GRU", "SimpleRNNCell": "RNN"}
"""Keras's name of a kind of layer, and PyTorch's name of the same kind."""


def trace(framework: Framework, builder: Builder, level: Level) -> Trace:
    """Train a level's network and its twins for a few steps, and return what came of it.

    A network that is random in training is compared before training alone.
    """
    settings = level.settings.model_copy(update={"recipe": aligned(level.settings.recipe)})
    dataset = datasets.load(settings.dataset)
    fold = datasets.divide(dataset, settings.split, level.seed)
    order = short_order(len(fold.y_train), settings.recipe, level.seed)
    cell = Cell(framework.NAME, level.initializer, level.seed)
    program = own.started(framework, builder, settings, cell, dataset, fold.x_train)
    rng = np.random.default_rng(seeds.stream(level.seed, "weights"))
    found: dict[str, list[Floats]] = {"outputs before training": [], "losses": [], "outputs": []}
    for twin in range(1 + TWINS):
        program = own.started(framework, builder, settings, cell, dataset, fold.x_train)
        if twin:
            program.put(_moved(program, rng))
        program.start(fold, settings.recipe.learning_rate, seed=0)
        found["outputs before training"].append(program.outputs().ravel())
        found["losses"].append(program.run(order).scores[:, 0, :2].ravel())
        found["outputs"].append(program.outputs().ravel())
    program = own.started(framework, builder, settings, cell, dataset, fold.x_train)
    program.start(fold, settings.recipe.learning_rate, seed=1)
    program.run(order)
    if not np.array_equal(program.outputs().ravel(), found["outputs"][0]):  # other noise, so it is random
        found = {name: found[name] for name in ("outputs before training",)}
    values = {name: np.stack(rows) for name, rows in found.items()}
    stray = ADAM if "adam" in settings.recipe.optimizer else 0.0
    before, after = values["outputs before training"][0], values.get("outputs", values["outputs before training"])[0]
    moved = stray * float(np.abs(after - before).max())
    return Trace(
        values={name: rows[0].tolist() for name, rows in values.items()},
        allowed={name: allowed(rows, moved if name in TRAINED else 0.0) for name, rows in values.items()},
        findings=[],
    )


def _moved(program: OwnProgram, rng: np.random.Generator) -> dict[tuple[str, str], Floats]:
    """Return the parameters of all layers, each the next number above or below what it is."""
    moved = {}
    for layer in program.layers.layers:
        for name in layer.parameters:
            value = program.read(layer.name, name)
            sign: NDArray[np.float32] = np.where(rng.integers(2, size=value.shape), 1, -1).astype(np.float32)
            moved[layer.name, name] = np.nextafter(value, sign * np.float32(np.inf))
    return moved


def match(found: Mapping[Backend, Examined]) -> None:
    """Check that the layers of two backends' networks match one to one, so that they can share weights.

    Raises:
        ValueError: if they do not; it tells the first that does not.
    """
    (one, ours), (other, theirs) = found.items()
    left = {backend: each.layers.left for backend, each in found.items() if each.layers.left}
    if left:
        backend, names = next(iter(left.items()))
        raise ValueError(f"weights: shared needs layers alone; {backend} has {names[0]}, which belongs to no layer")
    pairs = zip(ours.layers.layers, theirs.layers.layers, strict=False)
    for mine, yours in pairs:
        ours_has, theirs_has = (_signature(layer.kind, layer.kernels) for layer in (mine, yours))
        if differing := [what for what, value in ours_has.items() if value != theirs_has[what]]:
            told = f"{one} has {_told(mine)}, {other} {_told(yours)}; they differ in {' and '.join(differing)}"
            raise ValueError(f"weights: shared needs layers that match one to one, in order of execution; {told}")
    counts = [len(each.layers.layers) for each in (ours, theirs)]
    if counts[0] != counts[1]:
        raise ValueError(f"weights: shared needs equally many layers; {one} has {counts[0]}, {other} {counts[1]}")


def _signature(kind: str, kernels: Sequence[Kernel]) -> dict[str, object]:
    """Return what two layers must have in common: the kind, and of each kernel its shape, fans, gate and bias.

    Gates in another order differ: a GRU's are r, z, n in PyTorch and z, r, h in Keras.
    """
    shapes = [kernel.matrices(np.empty(kernel.shape, np.float32)).shape for kernel in kernels]
    fans = [(kernel.fan_in, kernel.fan_out) for kernel in kernels]
    biases = [kernel.bias is not None for kernel in kernels]  # PyTorch's LSTM has two biases, which both train
    gates = [kernel.name.rpartition(".")[2].replace("c", "g") for kernel in kernels if "." in kernel.name]
    same = ALIKE.get(kind, kind).lower()
    return {"kind": same, "shapes": shapes, "fans": fans, "the order of gates": gates, "biases": biases}


def _told(layer: Layer) -> str:
    first = layer.kernels[0]
    return f"{layer.name} ({layer.kind}, fans {first.fan_in:g} and {first.fan_out:g})"
