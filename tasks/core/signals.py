"""Signals: what flows through a network, forward and backward, layer by layer.

The first part is computed inside a backend's vectorised program, by the same definitions for both: each takes as `xp`
the namespace of the tensors' own functions (torch, keras.ops or numpy, which spell these alike) and sees one cell.
At the start, squares are taken of scaled values, so that they neither overflow nor underflow float32; in every step
that would cost too much, and norms below 1e-19 come out as 0.

The second part reads what a program returned: spectra, slopes over depth, the verdict, and names for the record.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core import meanfield
from tasks.core.activations import ActivationName
from tasks.core.meanfield import Theory
from tasks.core.study import Verdict

Array = NDArray[np.float64]

SATURATED = 0.97  # |tanh| beyond which its slope is less than 6 % of its largest
GQ_EPSILON = 1e-5  # of the gradient quotient, as its authors set it
ALIKE = 1e-5  # units whose pre-activations differ by less than this share of the largest are alike
JACOBIAN_ROWS = 128  # train rows, in their random order, whose Jacobians are taken
SPAN = 1e4  # over the hidden layers variance may change by this factor: 100 in size
UNTRAINED_LOSS = 10.0  # times ln(classes): an untrained network that is so wrong has exploded
DEAD = 0.9  # share of a hidden layer's units whose death is the layer's
POINTS = 2500  # of the layers' curves that one run logs; longer ones are thinned, their file is whole

START = (
    "pre_activation_mean",
    "pre_activation_variance",
    "activation_mean",
    "activation_variance",
    "gradient_variance",
    "weight_gradient_norm",
    "units_alike",
)
"""Signals at initialization, each for every layer, logits last."""
STANDARD_DEVIATIONS = ("pre_activation_variance", "activation_variance", "gradient_variance")
STATE = ("dead", "saturated", "finite")
"""Signals before training and after each epoch, for every layer; the last is 1 if its pre-activations are finite."""
FLOW = ("gradient_norm", "update_ratio", "finite")
"""Signals over an epoch's steps, for every layer: two means, and the share of steps with finite pre-activations."""


def _scale(xp: Any, values: Any) -> Any:
    largest = xp.amax(xp.abs(values))
    return xp.where(largest > 0, largest, xp.ones_like(largest))


def std(xp: Any, values: Any) -> Any:
    """Return the standard deviation of all values."""
    scale = _scale(xp, values)
    scaled = values / scale
    return scale * xp.sqrt(xp.mean((scaled - xp.mean(scaled)) ** 2))


def norm(xp: Any, values: Any) -> Any:
    """Return the Euclidean norm of all values."""
    scale = _scale(xp, values)
    return scale * xp.sqrt(xp.sum((values / scale) ** 2))


def norms(xp: Any, tensors: Sequence[Any]) -> Any:
    """Return the Euclidean norm of each tensor, (tensors,)."""
    return xp.sqrt(xp.stack([xp.sum(each * each) for each in tensors]))


def update_ratios(xp: Any, before: Sequence[Any], after: Sequence[Any]) -> Any:
    """Return by how much of its norm each kernel changed: (kernels,), for stacks of kernels (cells, kernels)."""
    moved = [xp.sum((new - old) ** 2, (-2, -1)) for old, new in zip(before, after, strict=True)]
    return xp.sqrt(xp.stack(moved, -1) / xp.stack([xp.sum(old * old, (-2, -1)) for old in before], -1))


def finite(xp: Any, tensors: Sequence[Any]) -> Any:
    """Return for each tensor 1 if all its values are finite, else 0, (tensors,)."""
    zero_or_nan = xp.stack([xp.sum(0 * each) for each in tensors])
    return xp.where(xp.isfinite(zero_or_nan), 1.0, 0.0)


def share(xp: Any, condition: Any) -> Any:
    """Return the share of true values."""
    return xp.mean(xp.where(condition, 1.0, 0.0))


def state(xp: Any, activated: Sequence[Any], pre_activations: Sequence[Any], activation: ActivationName) -> Any:
    """Return STATE of each layer from its activations and pre-activations (rows, units): (3, layers).

    dead: the share of units that are zero on every row; saturated: the share of values close to a bound of tanh or
    sigmoid, NaN for any other activation.
    """
    dead = xp.stack([share(xp, xp.amax(xp.abs(each), 0) == 0) for each in activated])
    saturated = float("nan") * dead
    if activation in ("tanh", "sigmoid"):
        # a sigmoid is half of 1 + tanh of half the argument
        bounded = activated if activation == "tanh" else [2 * each - 1 for each in activated]
        saturated = xp.stack([share(xp, xp.abs(each) > SATURATED) for each in bounded])
    return xp.stack([dead, saturated, finite(xp, pre_activations)])


def alike(xp: Any, pre_activation: Any) -> Any:
    """Return 1 if on every row all units of a layer (rows, units) have the same pre-activation, else 0."""
    if pre_activation.shape[1] == 1:  # one unit breaks no symmetry, and has none to break
        return 0 * xp.mean(pre_activation)
    spread = xp.amax(xp.amax(pre_activation, 1) - xp.amin(pre_activation, 1))
    return xp.where(spread <= ALIKE * xp.amax(xp.abs(pre_activation)), 1.0, 0.0)


def at_start(xp: Any, pre_activation: Any, activated: Any, gradient: Any, weight_gradient: Any) -> list[Any]:
    """Return the signals of START of one layer, standard deviations for variances.

    pre_activation, activated, gradient: (rows, units), the last that of each row's own loss in the pre-activation;
    weight_gradient: that of the mean loss, (fan_in, fan_out) or its transpose.
    """
    return [
        xp.mean(pre_activation),
        std(xp, pre_activation),
        xp.mean(activated),
        std(xp, activated),
        std(xp, gradient),
        norm(xp, weight_gradient),
        alike(xp, pre_activation),
    ]


def largest_class_share(xp: Any, logits: Any) -> Any:
    """Return the share of rows that go to the class which most rows go to; logits are (rows, classes)."""
    return xp.amax(xp.mean(xp.where(logits == xp.amax(logits, 1)[:, None], 1.0, 0.0), 0))


def gradient_quotient(xp: Any, gradients: Sequence[Any], products: Sequence[Any]) -> Any:
    """Return the mean over weights of |(g - Hg) / (g ± ε) - 1|, g the gradient of the mean loss, H its Hessian.

    How much the gradient changes over a step as long as itself, of each weight in proportion (Dauphin & Schoenholz,
    2019). `gradients` and `products` hold g and Hg kernel by kernel.
    """
    changes, count = 0.0, 0
    for g, product in zip(gradients, products, strict=True):
        away = g + GQ_EPSILON * xp.where(g >= 0, 1.0, -1.0)
        changes = changes + xp.sum(xp.abs((g - product) / away - 1))
        count += int(np.prod(g.shape))
    return changes / count


@dataclass(frozen=True)
class Start:
    """A batch of cells at initialization, as a program returns it.

    layers: START by layer, standard deviations for variances, (cells, len(START), layers); scores: loss on the train
    rows, largest class share and gradient quotient, (cells, 3); jacobians: of logits in inputs, (cells, rows, classes,
    features); state: STATE, (cells, len(STATE), layers). A batch normalization works with the statistics of the train
    rows, constant for the Jacobian; its running ones know of no row yet.
    """

    layers: NDArray[np.float32]
    scores: NDArray[np.float32]
    jacobians: NDArray[np.float32]
    state: NDArray[np.float32]


@dataclass(frozen=True)
class Spectrum:
    """Singular values of the input-to-logit Jacobian, each the median over rows; condition is largest / smallest."""

    largest: float
    smallest: float
    mean_square: float
    condition: float


def spectrum(jacobians: NDArray[np.float32]) -> Spectrum:
    """Return the spectrum of one cell's Jacobians (rows, classes, features); NaN if they are not finite.

    >>> spectrum(np.array([[[3.0, 0.0], [0.0, 1.0]]]))
    Spectrum(largest=3.0, smallest=1.0, mean_square=5.0, condition=3.0)
    """
    if not np.isfinite(jacobians).all():
        return Spectrum(np.nan, np.nan, np.nan, np.nan)
    values = np.linalg.svd(jacobians.astype(np.float64), compute_uv=False)
    largest, smallest = values[:, 0], values[:, -1]
    condition = np.divide(largest, smallest, out=np.full_like(largest, np.inf), where=smallest > 0)
    return Spectrum(*(float(np.median(each)) for each in (largest, smallest, (values**2).mean(1), condition)))


@dataclass(frozen=True)
class Signals:
    """All signals of one cell.

    start: each of START by layer, variances as such, (layers,); first_loss: of the untrained network on the train rows;
    uniform_loss: ln(classes), that of a guess; state, flow: each of STATE, (epochs + 1, layers), and of FLOW, (epochs,
    layers). Layers are the hidden ones and the logits.
    """

    start: dict[str, Array]
    theory: Theory
    spectrum: Spectrum
    first_loss: float
    uniform_loss: float
    largest_class_share: float
    gradient_quotient: float
    state: dict[str, Array]
    flow: dict[str, Array]

    @classmethod
    def of(
        cls,
        start: Start,
        at: int,
        theory: Theory,
        state: NDArray[np.float32],
        flow: NDArray[np.float32],
        classes: int,
    ) -> "Signals":
        """Take one cell of a batch; state is (epochs, len(STATE), layers), flow (epochs, len(FLOW), layers)."""
        state = np.concatenate([start.state[at : at + 1], state])
        layers = dict(zip(START, start.layers[at].astype(np.float64), strict=True))
        first_loss, largest_share, quotient = map(float, start.scores[at])
        return cls(
            start={name: each**2 if name in STANDARD_DEVIATIONS else each for name, each in layers.items()},
            theory=theory,
            spectrum=spectrum(start.jacobians[at]),
            first_loss=first_loss,
            uniform_loss=float(np.log(classes)),
            largest_class_share=largest_share,
            gradient_quotient=quotient,
            state={name: state[:, place].astype(np.float64) for place, name in enumerate(STATE)},
            flow={name: flow[:, place].astype(np.float64) for place, name in enumerate(FLOW)},
        )

    @property
    def hidden(self) -> int:
        """How many hidden layers there are."""
        return len(self.theory.backward)

    @property
    def forward(self) -> Array:
        """Variance of the hidden layers' pre-activations, first layer first."""
        return self.start["pre_activation_variance"][: self.hidden]

    @property
    def backward(self) -> Array:
        """Variance of the gradient in the hidden layers' pre-activations, first layer first."""
        return self.start["gradient_variance"][: self.hidden]

    @property
    def not_finite_at(self) -> tuple[int, int] | None:
        """Epoch and layer, counted from 1, in which a pre-activation was first not finite, or None.

        Epoch 0 is the start. In the step that first has one, it is in that layer and those above; later it is in all.
        """
        after = self.state["finite"]
        for epoch, steps in enumerate([after[0], *self.flow["finite"]]):
            for finite in (steps, after[epoch]):
                if (finite < 1).any():
                    return epoch, int(np.argmin(finite)) + 1
        return None

    @property
    def verdict(self) -> Verdict:
        """What the signals amount to, in a word; the first that applies.

        symmetric: all units of some hidden layer are alike. exploding: something was not finite, the untrained loss is
        UNTRAINED_LOSS times a guess's, or variance grows by more than SPAN, forward from the first layer to the logits
        or backward from the last hidden layer to the first. dead: a share of DEAD of some hidden layer's units is zero
        on every row at the start. vanishing: variance falls by more than SPAN. dead again: at the end. healthy: none.
        A layer that is given nothing but zeros, above one that is dead or has vanished, is neither symmetric nor dead.
        """
        forward, backward = self.start["pre_activation_variance"], self.backward
        with np.errstate(divide="ignore", invalid="ignore"):
            growth = [forward[-1] / forward[0]] + ([backward[0] / backward[-1]] if self.hidden else [])
        given = forward[: self.hidden] > 0
        given[:1] = True
        alike = (self.start["units_alike"][: self.hidden] == 1) & given
        dead = self.state["dead"][:, : self.hidden] >= DEAD
        if alike.any():
            return "symmetric"
        if self.not_finite_at or self.first_loss > UNTRAINED_LOSS * self.uniform_loss or max(growth) > SPAN:
            return "exploding"
        if (dead[0] & given).any():
            return "dead"
        if not min(growth) >= 1 / SPAN:
            return "vanishing"
        return "dead" if dead[-1].any() else "healthy"

    def scalars(self) -> dict[str, float]:
        """Return every number that describes the cell as a whole; NaN where it does not apply."""
        worst = {name: self.state[name][:, : self.hidden].max(1, initial=0.0) for name in ("dead", "saturated")}
        epoch, layer = self.not_finite_at or (np.nan, np.nan)
        return {
            "forward_slope": meanfield.log_slope(self.forward),
            "forward_slope_theory": meanfield.log_slope(self.theory.forward[: self.hidden]),
            "backward_slope": meanfield.log_slope(self.backward[::-1]),
            "backward_slope_theory": meanfield.log_slope(self.theory.backward[::-1]),
            "jacobian_largest": self.spectrum.largest,
            "jacobian_smallest": self.spectrum.smallest,
            "jacobian_mean_square": self.spectrum.mean_square,
            "jacobian_condition": self.spectrum.condition,
            "first_loss": self.first_loss,
            "first_loss_ratio": self.first_loss / self.uniform_loss,
            "largest_class_share": self.largest_class_share,
            "gradient_quotient": self.gradient_quotient,
            "dead_at_start": float(worst["dead"][0]),
            "dead_at_end": float(worst["dead"][-1]),
            "saturated_at_start": float(worst["saturated"][0]),
            "saturated_at_end": float(worst["saturated"][-1]),
            "not_finite_epoch": float(epoch),
            "not_finite_layer": float(layer),
        }

    def by_layer(self) -> Iterator[tuple[str, int, float]]:
        """Yield name, epoch and value of the layers' signals, epoch 0 being the start; long curves are thinned."""
        for name, values in self.start.items():
            yield from ((named(name, layer), 0, float(value)) for layer, value in enumerate(values, 1))
        curves = self.curves()
        every = -(-sum(values.size for values in curves.values()) // POINTS)
        for name, values in curves.items():
            epochs = range(len(self.state["dead"]) - len(values), len(self.state["dead"]))
            for epoch, row in zip(epochs, values, strict=True):
                if epoch % every == 0 or epoch == epochs[-1]:
                    yield from ((named(name, layer), epoch, float(value)) for layer, value in enumerate(row, 1))

    def curves(self) -> dict[str, Array]:
        """Return the layers' signals through training, (epochs + 1, hidden layers) or (epochs, layers)."""
        state = {name: self.state[name][:, : self.hidden] for name in ("dead", "saturated")}
        state = {name: values for name, values in state.items() if not np.isnan(values).all()}
        return state | {name: self.flow[name] for name in ("gradient_norm", "update_ratio")}


def named(signal: str, layer: int) -> str:
    """Return the name under which a layer's signal is recorded; layers count from 1, the logits are the last.

    >>> named("gradient_norm", 3)
    'gradient_norm/layer_003'
    """
    return f"{signal}/layer_{layer:03d}"
