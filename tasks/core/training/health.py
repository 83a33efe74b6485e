"""The health of a cell: one word for what its signals say about it.

The word is the first of these that applies:

- symmetric: all units of some hidden layer are alike.
- exploding: a pre-activation was not finite, or the loss before training is more than UNTRAINED_LOSS times that of a
  guess, or variance grows by more than SPAN: forward from the first layer to the logits, or backward from the last
  hidden layer to the first.
- dead: before training, in some hidden layer, a share DEAD of the units is zero on every row.
- vanishing: variance falls by more than SPAN, forward or backward.
- dead: the same as above, after training.
- healthy: none of the above.

A layer that gets nothing but zeros, because a layer below is dead or has vanished, counts neither as symmetric nor as
dead before training.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.core.design.columns import START, Health
from tasks.core.training import meanfield
from tasks.core.training.meanfield import Theory
from tasks.core.training.signals import FLOW, STANDARD_DEVIATIONS, STATE, Start

Array = NDArray[np.float64]

SPAN = 1e4  # variance may change by this factor over the layers; values then change by a factor of 100
UNTRAINED_LOSS = 10.0  # times ln(classes), the loss of a guess: a larger loss before training means exploding
DEAD = 0.9  # a hidden layer is dead if this share of its units is
POINTS = 2500  # of the layers' curves that a cell logs to MLflow; longer curves are thinned, except in history.csv


@dataclass(frozen=True)
class Spectrum:
    """Singular values of the Jacobian of the logits in the inputs; each number is a median over rows.

    mean_square: of all singular values of a row; condition: largest / smallest.
    """

    largest: float
    smallest: float
    mean_square: float
    condition: float


def spectrum(jacobians: NDArray[np.float32]) -> Spectrum:
    """Return the spectrum of one cell's Jacobians (rows, classes, features); all NaN if a value is not finite.

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

    start: by name of START, one value for each layer, (layers,); NaN where a layer has no such signal. first_loss: loss
    on the train rows before training. uniform_loss: the loss of a guess, which is ln(classes), or the variance of real
    targets. state: by name of STATE, (epochs + 1, layers). flow: by name of
    FLOW, (epochs, layers). The layers are the hidden ones and, last, the logits.
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
        guess: float,
    ) -> "Signals":
        """Return the signals of cell `at` of a batch; guess: the loss of a guess.

        state, flow: the cell's, (epochs, len(STATE), layers) and (epochs, len(FLOW), layers).
        """
        state = np.concatenate([start.state[at : at + 1], state])
        layers = dict(zip(START, start.layers[at].astype(np.float64), strict=True))
        first_loss, largest_share, quotient = map(float, start.scores[at])
        return cls(
            start={name: each**2 if name in STANDARD_DEVIATIONS else each for name, each in layers.items()},
            theory=theory,
            spectrum=spectrum(start.jacobians[at]),
            first_loss=first_loss,
            uniform_loss=guess,
            largest_class_share=largest_share,
            gradient_quotient=quotient,
            state={name: state[:, place].astype(np.float64) for place, name in enumerate(STATE)},
            flow={name: flow[:, place].astype(np.float64) for place, name in enumerate(FLOW)},
        )

    @property
    def hidden(self) -> int:
        """Number of hidden layers."""
        return len(self.theory.backward)

    @property
    def seen(self) -> NDArray[np.bool_]:
        """Which layers have outputs that are measured; a network of one's own may never call some of its layers."""
        return np.asarray(~np.isnan(self.state["finite"][0]))

    @property
    def forward(self) -> Array:
        """Variance of the hidden layers' pre-activations, first layer first."""
        return self.start["pre_activation_variance"][: self.hidden]

    @property
    def backward(self) -> Array:
        """Variance of the loss's gradient in the hidden layers' pre-activations, first layer first."""
        return self.start["gradient_variance"][: self.hidden]

    @property
    def not_finite_at(self) -> tuple[int, int] | None:
        """Epoch and layer in which a pre-activation was first not finite, or None; both count from 1.

        Epoch 0 means before training. The layer is the one with the smallest share of finite steps: in the first such
        step its values and those of the layers above it are not finite; from the next step on, those of all layers.
        """
        after = self.state["finite"]
        for epoch, steps in enumerate([after[0], *self.flow["finite"]]):
            for finite in (steps, after[epoch]):
                if (finite < 1).any():
                    return epoch, int(np.nanargmin(finite)) + 1
        return None

    @property
    def health(self) -> Health:
        """One word for what the signals say; the module's docstring defines the words."""
        forward, seen = self.start["pre_activation_variance"], self.seen
        through, backward = forward[seen], self.backward[seen[: self.hidden]]
        with np.errstate(divide="ignore", invalid="ignore"):
            growth = [through[-1] / through[0]] if len(through) else []
            growth += [backward[0] / backward[-1]] if len(backward) else []
        given = forward[: self.hidden] > 0
        given[:1] = True
        alike = (self.start["units_alike"][: self.hidden] == 1) & given
        dead = self.state["dead"][:, : self.hidden] >= DEAD
        if alike.any():
            return "symmetric"
        untrained = self.first_loss > UNTRAINED_LOSS * self.uniform_loss
        if self.not_finite_at or untrained or max(growth, default=1.0) > SPAN:
            return "exploding"
        if (dead[0] & given).any():
            return "dead"
        if not min(growth, default=1.0) >= 1 / SPAN:
            return "vanishing"
        return "dead" if dead[-1].any() else "healthy"

    def scalars(self) -> dict[str, float]:
        """Return every signal that is one number for the whole cell; NaN if it does not apply."""
        worst = {name: _worst(self.state[name][:, : self.hidden]) for name in ("dead", "saturated")}
        epoch, layer = self.not_finite_at or (np.nan, np.nan)
        return {
            "forward_slope": meanfield.log_slope(self.forward[self.seen[: self.hidden]]),
            "forward_slope_theory": meanfield.log_slope(self.theory.forward[: self.hidden]),
            "backward_slope": meanfield.log_slope(self.backward[self.seen[: self.hidden]][::-1]),
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
        """Yield name, epoch and value of every layer's signals; epoch 0 is before training. Long curves are thinned."""
        for name, values in self.start.items():
            known = ((layer, float(value)) for layer, value in enumerate(values, 1) if not np.isnan(value))
            yield from ((named(name, layer), 0, value) for layer, value in known)
        curves = self.curves()
        every = -(-sum(values.size for values in curves.values()) // POINTS)
        for name, values in curves.items():
            epochs = range(len(self.state["dead"]) - len(values), len(self.state["dead"]))
            for epoch, row in zip(epochs, values, strict=True):
                if epoch % every == 0 or epoch == epochs[-1]:
                    yield from ((named(name, layer), epoch, float(value)) for layer, value in enumerate(row, 1))

    def curves(self) -> dict[str, Array]:
        """Return the layers' signals through training, by name.

        Those of STATE are (epochs + 1, hidden layers), those of FLOW (epochs, layers).
        """
        state = {name: self.state[name][:, : self.hidden] for name in ("dead", "saturated")}
        state = {name: values for name, values in state.items() if not np.isnan(values).all()}
        return state | {name: self.flow[name] for name in ("gradient_norm", "update_ratio")}


def _worst(shares: Array) -> Array:
    """Return the largest share of each epoch, (epochs,), over the layers (epochs, layers) that have one; NaN if none.

    >>> _worst(np.array([[0.25, np.nan], [0.5, np.nan]])).tolist()
    [0.25, 0.5]
    """
    known = shares[:, ~np.isnan(shares).all(axis=0)]
    return known.max(1, initial=0.0) if known.size or not shares.size else np.full(len(shares), np.nan)


def named(signal: str, layer: int) -> str:
    """Return the name under which MLflow records a layer's signal; layers count from 1, and the last gives the logits.

    >>> named("gradient_norm", 3)
    'gradient_norm/layer_003'
    """
    return f"{signal}/layer_{layer:03d}"
