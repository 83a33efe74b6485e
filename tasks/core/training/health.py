"""The health of a cell: what its signals, as a program returned them, say of it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.core.design.columns import START, Health
from tasks.core.training import meanfield
from tasks.core.training.meanfield import Theory
from tasks.core.training.signals import FLOW, STANDARD_DEVIATIONS, STATE, Start

Array = NDArray[np.float64]

SPAN = 1e4  # over the hidden layers variance may change by this factor: 100 in size
UNTRAINED_LOSS = 10.0  # times ln(classes): an untrained network that is so wrong has exploded
DEAD = 0.9  # share of a hidden layer's units whose death is the layer's
POINTS = 2500  # of the layers' curves that one run logs; longer ones are thinned, their file is whole


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
    def health(self) -> Health:
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
