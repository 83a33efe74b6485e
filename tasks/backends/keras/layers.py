"""The weighted layers of any Keras model: their kernels, with the fans of the operation, read and written."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from typing import Any

import keras
import numpy as np

from tasks.core.design.layers import Claim, Kernel, Layer, Layers, owners, parts, tied
from tasks.core.training.datasets import Floats


def _kernel(layer: keras.Layer, axes: str, parameter: str = "kernel", bias: str = "bias", **geometry: Any) -> Kernel:
    """Return a kernel that is a whole parameter."""
    (kernel,) = parts(layer, axes, parameter, bias, ("",), axis=-1, **geometry)
    return kernel


def _convolution(layer: Any) -> list[Kernel]:
    return [_kernel(layer, "* i go", groups=layer.groups, strides=layer.strides)]


def _transposed(layer: Any) -> list[Kernel]:
    return [_kernel(layer, "* o i", strides=layer.strides, dilation=layer.dilation_rate, transposed=True)]


def _depthwise(layer: Any) -> list[Kernel]:
    return [_kernel(layer, "* g o", strides=layer.strides)]


def _separable(layer: Any) -> list[Kernel]:
    depthwise = _kernel(layer, "* g o", "depthwise_kernel", bias="", strides=layer.strides)
    return [depthwise, _kernel(layer, "* i o", "pointwise_kernel")]


def _recurrent(cell: Any, gates: str) -> list[Kernel]:
    """Return the kernels of each gate: of the inputs, and of the state before."""
    names = gates.split(" ")
    offsets = {"f": 1.0} if getattr(cell, "unit_forget_bias", False) else {}
    of_inputs = parts(cell, "i o", "kernel", "bias", names, axis=-1, offsets=offsets)
    return [*of_inputs, *parts(cell, "i o", "recurrent_kernel", "", names, axis=-1)]


def _einsum(layer: keras.layers.EinsumDense) -> list[Kernel]:
    """Return the kernel by what its equation says: an axis that outputs lack is summed over.

    An equation that sums over an axis of the inputs alone is not known here.
    """
    operands, outputs = layer.equation.replace(" ", "").split("->")
    inputs, axes = operands.split(",")
    if not {*inputs} <= {*axes, *outputs}:
        return []
    words = ["i" if axis not in outputs else "g" if axis in inputs else "o" for axis in axes]
    return [_kernel(layer, " ".join(words))]


KINDS: dict[type[keras.Layer], Callable[[Any], list[Kernel]]] = {
    keras.layers.Dense: lambda layer: [_kernel(layer, "i o")],
    keras.layers.EinsumDense: _einsum,  # those within MultiHeadAttention and GroupedQueryAttention, too
    keras.layers.Conv1D: _convolution,
    keras.layers.Conv2D: _convolution,
    keras.layers.Conv3D: _convolution,
    keras.layers.Conv1DTranspose: _transposed,
    keras.layers.Conv2DTranspose: _transposed,
    keras.layers.Conv3DTranspose: _transposed,
    keras.layers.DepthwiseConv1D: _depthwise,
    keras.layers.DepthwiseConv2D: _depthwise,
    keras.layers.SeparableConv1D: _separable,
    keras.layers.SeparableConv2D: _separable,
    keras.layers.Embedding: lambda layer: [_kernel(layer, "i o", "embeddings", lookup=True)],
    keras.layers.SimpleRNNCell: partial(_recurrent, gates=""),
    keras.layers.GRUCell: partial(_recurrent, gates="z r h"),
    keras.layers.LSTMCell: partial(_recurrent, gates="i f c o"),
}
"""What lies in the kernels of each kind of layer. A subclass is of the kind of its nearest base.

Layers without an entry are looked into: SimpleRNN, GRU and LSTM hold a cell, attention holds its projections, and
Bidirectional, TimeDistributed and layers of a user's own hold other layers.
"""


def _kind(layer: keras.Layer) -> type[keras.Layer] | None:
    return next((base for base in type(layer).__mro__ if base in KINDS), None)


def modules(model: keras.Layer, *inputs: Any) -> dict[str, keras.Layer]:
    """Return the layers of a model by name: a layer's own name, after the names of the layers that hold it.

    Given inputs, the model is called once, not in training, and its layers are in order of execution. Without inputs
    the layers of functional and sequential models are in the order of the graph, and others in order of definition. A
    layer that is not called itself comes with the layer that holds it, or else at the end.
    """
    found = _named(model)
    called = _called(model, found, inputs) if inputs else {}

    def order(name: str) -> int:
        while name and name not in called:
            name = name.rpartition("/")[0]
        return called[name] if name else len(called)

    return dict(sorted(found.items(), key=lambda item: order(item[0])))


def _named(model: keras.Layer) -> dict[str, keras.Layer]:
    """Return a model and the layers within it by name, in order of definition."""
    found: dict[str, keras.Layer] = {}
    pending, seen = [(model.name, model)], set()
    while pending:
        name, layer = pending.pop()
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        while name in found:  # siblings may have one name
            name += "'"
        found[name] = layer
        within = layer.layers if isinstance(layer, keras.Model) else layer._layers
        start = "" if layer is model else f"{name}/"
        pending += [(start + each.name, each) for each in reversed(within)]
    return found


def _called(model: keras.Layer, found: dict[str, keras.Layer], inputs: Sequence[Any]) -> dict[str, int]:
    """Return at which place each layer is called first."""
    called: dict[str, int] = {}
    with ExitStack() as stack:
        for name, layer in found.items():
            stack.enter_context(_noted(layer, partial(called.setdefault, name), called))
        model(*inputs, training=False)
    return called


@contextmanager
def _noted(layer: keras.Layer, note: Callable[[int], int], called: dict[str, int]) -> Iterator[None]:
    """Have a layer note its place among those that are called, each time it is called."""
    call = layer.call

    @wraps(call)
    def noting(*args: Any, **options: Any) -> Any:
        note(len(called))
        return call(*args, **options)

    object.__setattr__(layer, "call", noting)  # Keras would track what its own way of setting is given
    try:
        yield
    finally:
        object.__delattr__(layer, "call")


def layers(model: keras.Layer, *inputs: Any) -> Layers:
    """Return the weighted layers of a model, in the order of `modules`.

    Raises:
        ValueError: if a layer is not built.
    """
    found = modules(model, *inputs)
    for name, layer in found.items():
        if not layer.built:
            raise ValueError(f"layers must be built before they are listed; got {type(layer).__name__} {name!r}")
    listed = [
        Layer(name, kind.__name__, tuple(kernels))
        for name, layer in found.items()
        if (kind := _kind(layer)) and (kernels := KINDS[kind](layer))
    ]
    claims: list[Claim] = [
        (layer, f"{layer.name}/{parameter}", [getattr(found[layer.name], parameter)])
        for layer in listed
        for parameter in layer.parameters
    ]
    owned = owners(claims)
    notes = [
        f"{name}: training divides what is drawn by its largest singular value"
        for name, layer in found.items()
        if isinstance(layer, keras.layers.SpectralNormalization)
    ]
    left = [
        f"{name}/{variable.name}"
        for name, layer in found.items()
        for variable in layer._trainable_variables
        if len(variable.shape) > 1 and id(variable) not in owned
    ]
    return Layers(tuple(listed), tuple(left), tied(claims, owned), tuple(notes))


def check(layer: keras.Layer, name: str, parameter: str) -> None:
    """Check that a parameter can be assigned.

    Raises:
        ValueError: if it is no variable of floating-point numbers.
    """
    value = getattr(layer, parameter)
    if not isinstance(value, keras.Variable) or not keras.backend.is_float_dtype(value.dtype):
        raise ValueError(
            f"{name}/{parameter} is computed from other weights, or quantized; initialize the layer before LoRA is "
            "enabled or the layer is quantized"
        )


def read(layer: keras.Layer, kernel: Kernel) -> Floats:
    """Return a kernel as (groups, taps, inputs, outputs)."""
    return kernel.matrices(kernel.place.view(getattr(layer, kernel.place.parameter).numpy()))


def write(layer: keras.Layer, kernel: Kernel, matrices: Floats) -> None:
    """Write a kernel that is given as (groups, taps, inputs, outputs)."""
    variable = getattr(layer, kernel.place.parameter)
    value = np.array(variable.numpy())
    kernel.place.view(value)[...] = kernel.array(matrices)
    variable.assign(value)
