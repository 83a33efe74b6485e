"""Models of NumPy alone, for audits: layers of any kind, drawn as a test says."""

import numpy as np

from tasks.core.audit.rows import NO_JACOBIANS
from tasks.core.audit.sample import FirstPass
from tasks.core.design.initializers import named
from tasks.core.design.layers import Kernel, Layer, Layers, Place
from tasks.core.training.signals import Start


class Model:
    """A model as `Auditable` describes it. `draws` has a function of a generator for each parameter, by its path."""

    backend = "pytorch"
    version = "0"

    def __init__(self, layers, draws, others=None, tied=(), dtypes=None, frozen=()):
        self.layers, self.draws, self.others = Layers(tuple(layers), tied=tied), draws, others or {}
        self.skipped, self.cuts, self.places, self.frozen = (), {}, {}, frozen
        self.dtypes, self.built = dtypes or {}, {}

    def build(self, seed):
        rng = np.random.default_rng(seed)
        self.built = {path: np.asarray(draw(rng), np.float32) for path, draw in self.draws.items()}

    def path(self, layer, parameter):
        return f"{layer}.{parameter}"

    def read(self, layer, parameter):
        path = f"{layer}.{parameter}" if layer else parameter
        return self.built[path], self.dtypes.get(path, "float32")

    def counted(self, kernel, kind):
        outputs, inputs, *taps = kernel.whole
        field = int(np.prod(taps))
        return float(inputs * field), float(outputs * field)

    def first_pass(self):
        return FirstPass(note="none")


def dense(name, inputs, outputs, parts=1, bias=True):
    """Return a linear layer, of one kernel or of several that are fused."""
    kernels = [
        Kernel(
            f"weight.{at}" if parts > 1 else "weight",
            Place("weight", at, parts, 0),
            (outputs, inputs),
            "o i",
            bias=Place("bias", at, parts, 0) if bias else None,
        )
        for at in range(parts)
    ]
    return Layer(name, "Linear", tuple(kernels))


def convolution(name, channels, groups=1, side=3, transposed=False, strides=()):
    """Return a convolution of as many outputs as inputs, without biases."""
    shape = (channels, channels // groups, side, side)
    kernel = Kernel(
        "weight",
        Place("weight", axis=0),
        shape,
        "gi o *" if transposed else "go i *",
        groups,
        strides,
        (1, 1),
        transposed,
    )
    return Layer(name, "Conv2d", (kernel,))


def drawn(layer, label="he_normal"):
    """Return how the parameters of a layer are drawn if all is right: kernels by a law with fans, biases zeros."""
    zeros = {f"{layer.name}.bias": lambda _: np.zeros(layer.kernels[0].whole[0])} if layer.kernels[0].bias else {}
    weight = f"{layer.name}.weight"
    return {weight: lambda rng: np.concatenate([kernel(each, label, rng) for each in layer.kernels]), **zeros}


def kernel(each, label, rng):
    """Draw a kernel by an initializer, with the fans of its operation."""
    law = named(label).law
    if label in ("orthogonal", "identity"):
        return each.assembled(lambda fan_in, fan_out: law.draw(fan_in, fan_out, rng=rng))
    free = law.without_fans(each.fan_in, each.fan_out)
    return free.draw(each.shape[0], int(np.prod(each.shape[1:])), rng=rng).reshape(each.shape)


def plain(depth=4, width=24, label="he_normal"):
    """Return the layers of a perceptron and their draws, all right."""
    layers = [dense(f"l{at}", width, width) for at in range(depth)]
    return layers, {path: draw for layer in layers for path, draw in drawn(layer, label).items()}


def passed(forward, backward=None, dead=None, loss=2.3, alike=None):
    """Return a first pass through layers with these variances of outputs, and of gradients in these."""
    count = len(forward)
    nothing = np.full(count, np.nan)
    backward, dead, alike = (np.asarray(nothing if each is None else each, float) for each in (backward, dead, alike))
    alike = np.nan_to_num(alike)
    layers = [nothing * 0, np.sqrt(forward), nothing, nothing, np.sqrt(backward), nothing * 0, alike]
    layers[0] = layers[5] = np.zeros(count)
    state = [dead, nothing, np.isfinite(forward).astype(float)]
    start = Start(
        np.array([layers], np.float32),
        np.array([[loss, 0.2, np.nan]], np.float32),
        NO_JACOBIANS,
        np.array([state], np.float32),
    )
    return FirstPass("rows", tuple(f"l{at}" for at in range(count)), start, float(np.log(10)))
