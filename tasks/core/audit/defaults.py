"""By which law each framework draws a layer's kernels, if nobody says otherwise."""

import math

from tasks.core.audit.sample import Fans, Part
from tasks.core.design.initializers import Backend, Law, Normal, Uniform, VarianceScaling

GLOROT = VarianceScaling(1, "fan_avg", "uniform")
RECURRENT = ("RNN", "RNNCell", "GRU", "GRUCell", "LSTM", "LSTMCell")  # torch's

PROJECTS = "weight_hr"  # a recurrent layer's kernel that projects its units, which are the inputs here


def default(part: Part, backend: Backend) -> Law | None:
    """Return the law without fans by which a framework draws kernels or biases, None if it is constant or unknown.

    Frameworks take the fans of the array, but torch's recurrent layers the number of units, and its bilinear ones the
    first input's size, which their biases do not show.

    >>> default(Part("w", "w", "l", "Linear", "kernel", (3, 4), "float32", counted=(4.0, 3.0)), "pytorch")
    Uniform(bound=0.5)
    """
    if part.counted is None:
        return None
    if backend == "keras":
        return _of_keras(part, part.counted)
    if part.role == "embedding":
        return Normal(1.0)
    if part.kind == "MultiheadAttention":
        return GLOROT.without_fans(*part.counted, backend) if part.role == "kernel" else None
    if part.kind in RECURRENT:
        units = part.shape[-1] if part.parameter.rpartition(".")[2].startswith(PROJECTS) else part.units
        return Uniform(1 / math.sqrt(units)) if units else None
    if part.kind == "Bilinear":
        return Uniform(1 / math.sqrt(part.shape[1])) if part.role == "kernel" and part.size else None
    return Uniform(1 / math.sqrt(part.counted[0])) if part.counted[0] else None


def _of_keras(part: Part, counted: Fans) -> Law | None:
    if part.role == "bias" or part.name.rpartition("/")[2].startswith("recurrent_kernel"):
        return None  # zeros; orthogonal
    return Uniform() if part.role == "embedding" else GLOROT.without_fans(*counted, "keras")


def own_fans(part: Part, backend: Backend) -> bool:
    """Tell whether the default is a law that no registered one may stand for: it goes by no kernel's fans in torch."""
    return part.role == "bias" or (backend == "pytorch" and part.kind in (*RECURRENT, "Bilinear"))
