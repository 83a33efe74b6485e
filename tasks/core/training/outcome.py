"""The outcome of a cell: finished, diverged or failed, with everything that was measured."""

from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tasks.core.design.columns import Health
from tasks.core.design.grid import Cell
from tasks.core.training.bits import Bits
from tasks.core.training.datasets import Fold
from tasks.core.training.health import Signals
from tasks.core.training.reference import Pace

REASON_LENGTH = 300  # characters; a framework's errors can be pages long

Status = Literal["finished", "diverged", "failed"]


@dataclass(frozen=True)
class Curves:
    """Loss and accuracy before training (entry 0) and after each epoch: arrays of shape (epochs + 1,).

    Those of validation are None where there are no validation rows.
    """

    train_loss: NDArray[np.float32]
    test_loss: NDArray[np.float32]
    train_accuracy: NDArray[np.float32]
    test_accuracy: NDArray[np.float32]
    validation_loss: NDArray[np.float32] | None = None
    validation_accuracy: NDArray[np.float32] | None = None

    def items(self) -> list[tuple[str, NDArray[np.float32]]]:
        """Return the name and the values of each curve that there is."""
        curves = [(entry.name, getattr(self, entry.name)) for entry in fields(self)]
        return [(name, values) for name, values in curves if values is not None]

    @property
    def loss_area(self) -> float:
        """Mean test loss over training: the area under its curve, by trapezoids, divided by the number of epochs."""
        return float(np.trapezoid(self.test_loss.astype(np.float64)) / (len(self.test_loss) - 1))

    @property
    def diverged_at(self) -> int | None:
        """The first epoch after which a loss is NaN or infinite; None if there is no such epoch."""
        broken = ~(np.isfinite(self.train_loss) & np.isfinite(self.test_loss))
        return int(np.argmax(broken)) if broken.any() else None


@dataclass(frozen=True)
class Predictions:
    """The trained network on the n test rows: their numbers in the dataset, their classes (n,), logits (n, classes).

    Where rows have a class at each position, n counts positions, and a row's number is there for each of them. Where
    targets are real numbers, labels and logits are targets and outputs, (n, outputs), in the units of the data.
    """

    rows: NDArray[np.int64]
    labels: NDArray[Any]
    logits: NDArray[np.float32]

    @classmethod
    def of(cls, fold: Fold, outputs: NDArray[np.float32]) -> "Predictions":
        """Return the predictions of a fold's test rows, given the network's outputs."""
        if np.issubdtype(fold.y_test.dtype, np.floating):
            labels, found = (each * fold.y_scale + fold.y_mean for each in (fold.y_test, outputs))
            return cls(fold.test_rows, labels, found.astype(np.float32))
        positions = fold.y_test[0].size
        flat = outputs.reshape(-1, outputs.shape[-1])
        return cls(np.repeat(fold.test_rows, positions), fold.y_test.reshape(-1), flat)

    @property
    def brier_score(self) -> float:
        """Mean over rows of Σ (p - y)², p the predicted probabilities and y the one-hot class: 0 to 2 (Brier, 1950).

        It is NaN where targets are real numbers.
        """
        from scipy.special import softmax

        if np.issubdtype(self.labels.dtype, np.floating):
            return float("nan")

        truth = np.eye(self.logits.shape[1])[self.labels]
        with np.errstate(invalid="ignore"):  # NaN is the score of logits that are not finite
            return float(np.square(softmax(self.logits.astype(np.float64), axis=1) - truth).sum(1).mean())


@dataclass(frozen=True)
class Described:
    """What is told of the layers of a network of one's own, each a tuple over layers but for `left`.

    fan_in, fan_out: of the layer's first kernel. native_factor: the variance that native weights have, as a multiple of
    what the law gives with the fans of the operation. left: parameters that belong to no layer and stay as built.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    fan_in: tuple[float, ...]
    fan_out: tuple[float, ...]
    native_factor: tuple[float, ...]
    left: tuple[str, ...]

    @property
    def largest_factor(self) -> float:
        """The factor of the layer in which native weights differ most from their law."""
        return max(self.native_factor, key=lambda factor: abs(np.log(factor)), default=1.0)


@dataclass(frozen=True)
class Trained:
    """Everything that training a cell gives; `weights` have the names and shapes of the framework's own model.

    described: of a network of one's own. bits: digests of the weights and of the first gradient. pace: of a cell that a
    benchmark trains.
    """

    curves: Curves
    predictions: Predictions
    weights: dict[str, NDArray[np.float32]]
    signals: Signals
    seconds: float
    described: Described | None = None
    bits: Bits = field(default_factory=Bits)
    pace: Pace | None = None

    @property
    def scalars(self) -> dict[str, float]:
        """Every number that describes the cell as a whole, by name."""
        quality = {"brier_score": self.predictions.brier_score, "loss_area": self.curves.loss_area}
        factor = {"native_factor": self.described.largest_factor} if self.described else {}
        pace = self.pace.scalars if self.pace else {}
        return {**quality, "train_seconds": self.seconds, **pace, **self.signals.scalars(), **factor}

    @property
    def health(self) -> Health:
        """What the signals say of the cell, in a word; a cell that diverged is exploding."""
        return self.signals.health if self.curves.diverged_at is None else "exploding"


@dataclass(frozen=True)
class Outcome:
    """A cell with its status. A failed cell has a reason, and `trained` is None."""

    cell: Cell
    status: Status
    reason: str = ""
    trained: Trained | None = field(default=None, repr=False)

    @classmethod
    def of(cls, cell: Cell, trained: Trained) -> "Outcome":
        """Return the outcome of a trained cell: diverged if a loss ever was NaN or infinite, else finished."""
        epoch = trained.curves.diverged_at
        if epoch is None:
            return cls(cell, "finished", trained=trained)
        first = trained.signals.not_finite_at
        name = f" ({trained.described.names[first[1] - 1]})" if first and trained.described else ""
        where = f"; first in the pre-activations of layer {first[1]}{name}, in epoch {first[0]}" if first else ""
        return cls(cell, "diverged", f"loss was not finite after epoch {epoch}{where}", trained)

    @classmethod
    def failure(cls, cell: Cell, error: BaseException) -> "Outcome":
        """Return the outcome of a cell that could not be trained; the reason is the error's first line."""
        return cls(cell, "failed", f"{type(error).__name__}: {first_line(error)[:REASON_LENGTH]}")


def first_line(error: BaseException) -> str:
    r"""Return the first line of an error's message; the message may be empty.

    >>> first_line(ValueError("no memory\non device 0"))
    'no memory'
    """
    return str(error).partition("\n")[0].rstrip("\r")


def epochs_to_target(test_accuracy: NDArray[np.float32], target: float) -> int | None:
    """Return the first epoch after which the test accuracy is at least the target; None if there is no such epoch.

    >>> epochs_to_target(np.array([0.3, 0.8, 0.9, 0.7], dtype=np.float32), target=0.9)
    2
    """
    reached = test_accuracy >= np.float32(target)
    return int(np.argmax(reached)) if reached.any() else None
