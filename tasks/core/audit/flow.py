"""What the first pass shows: one word for its health, and the layer where it goes wrong first."""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from tasks.core.audit.findings import Finding
from tasks.core.audit.sample import FirstPass
from tasks.core.design.columns import Health
from tasks.core.training.health import DEAD, SPAN, UNTRAINED_LOSS, Signals
from tasks.core.training.meanfield import log_slope
from tasks.core.training.own import unknown
from tasks.core.training.signals import FLOW, STATE

MILD = 1.5  # times the loss of a guess: from here on a first loss is told as a doubt
Array = NDArray[np.float64]
FROZEN = ConfigDict(frozen=True, extra="forbid")


class LayerFlow(BaseModel):
    """What flows through a layer: variance of its outputs, and of the loss's gradient in these; share of dead units.

    None where a layer has no such number. finite: whether all its outputs are.
    """

    model_config = FROZEN

    name: str
    forward: float | None
    backward: float | None
    dead: float | None
    finite: bool = True


class Flow(BaseModel):
    """What the first pass shows. inputs: what the rows were. loss, guess: the first loss and that of a guess.

    largest_class_share: the share of rows that get the class that most rows get. slopes: of the logarithm of the
    variance, by layer. layers: in order of execution. wrong_at: the layer where it goes wrong first, if it does.
    """

    model_config = FROZEN

    inputs: str
    health: Health
    loss: float | None
    guess: float
    largest_class_share: float | None
    forward_slope: float | None
    backward_slope: float | None
    layers: tuple[LayerFlow, ...]
    wrong_at: str = ""

    @property
    def ratio(self) -> float:
        """The first loss over that of a guess; infinite if the one is not finite, or the other zero."""
        return math.inf if self.loss is None or self.guess == 0 else self.loss / self.guess


def flow(first: FirstPass) -> Flow | None:
    """Return what a first pass shows, None if there was none."""
    if first.start is None or not first.layers:
        return None
    count = len(first.layers)
    nothing = np.zeros((0, len(STATE), count), np.float32), np.zeros((0, len(FLOW), count), np.float32)
    signals = Signals.of(first.start, 0, unknown(count), *nothing, first.guess)
    forward, backward = signals.start["pre_activation_variance"], signals.start["gradient_variance"]
    dead, finite = signals.state["dead"][0], signals.state["finite"][0]
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = log_slope(forward[signals.seen][:-1]), log_slope(backward[signals.seen][:-1][::-1])
    return Flow(
        inputs=first.inputs,
        health=signals.health,
        loss=_known(signals.first_loss),
        guess=first.guess,
        largest_class_share=_known(signals.largest_class_share),
        forward_slope=_known(slopes[0]),
        backward_slope=_known(slopes[1]),
        layers=tuple(
            LayerFlow(name=name, forward=_known(one), backward=_known(other), dead=_known(share), finite=bool(bad != 0))
            for name, one, other, share, bad in zip(first.layers, forward, backward, dead, finite, strict=True)
        ),
        wrong_at=_wrong(signals, first.layers),
    )


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _wrong(signals: Signals, names: tuple[str, ...]) -> str:
    """Return the layer where the first pass goes wrong first: forward, or backward where forward all is well."""
    forward, backward = signals.start["pre_activation_variance"], signals.start["gradient_variance"]
    finite, seen = signals.state["finite"][0], np.flatnonzero(signals.seen)
    through = forward[seen]
    back = backward[: signals.hidden][signals.seen[: signals.hidden]][::-1]
    order = seen[seen < signals.hidden][::-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios, returns = through / through[:1], back / back[:1]
    match signals.health:
        case "symmetric":
            bad = np.flatnonzero(signals.start["units_alike"] == 1)
        case "dead":
            bad = np.flatnonzero(signals.state["dead"][0] >= DEAD)
        case "exploding":
            bad = np.array([*np.flatnonzero(finite == 0), *seen[ratios > SPAN], *order[returns > SPAN], *seen[-1:]])
        case "vanishing":
            bad = np.array([*seen[~(ratios >= 1 / SPAN)], *order[~(returns >= 1 / SPAN)]])
        case _:
            return ""
    return names[int(bad[0])] if bad.size else ""


REMEDIES: dict[Health, str] = {
    "exploding": "scale this layer's kernel by its fans (He's law for ReLU), or the branches that are added",
    "vanishing": "scale this layer's kernel by its fans (He's law for ReLU), or normalize",
    "dead": "look at the biases and at the scale of the layer before",
    "symmetric": "draw this layer's kernel at random",
    "healthy": "",
}


def found(shown: Flow | None) -> Iterator[Finding]:
    """Yield what is wrong with a first pass."""
    if shown is None:
        return
    where = (shown.wrong_at,) if shown.wrong_at else ()
    ratio = f"the first loss is {shown.ratio:.3g} times that of a guess"
    if shown.health != "healthy":
        yield Finding(
            severity="doubt" if _backward_alone(shown) else "fault",
            what=f"first pass {shown.health}",
            parts=where,
            evidence=_evidence(shown, ratio),
            remedy=REMEDIES[shown.health],
        )
    elif MILD < shown.ratio <= UNTRAINED_LOSS:
        yield Finding(
            severity="doubt",
            what="a high first loss",
            parts=tuple(layer.name for layer in shown.layers[-1:]),
            evidence=f"{ratio} ({shown.loss:.3g} where {shown.guess:.3g} is)",
            remedy="scale the last layer down, so that the first outputs are near zero",
        )


def _backward_alone(shown: Flow) -> bool:
    """Tell whether only the gradient's variance leaves its range, as behind a pooling or between normalizations."""
    finite = all(layer.finite for layer in shown.layers)
    if shown.health not in ("exploding", "vanishing") or shown.ratio > UNTRAINED_LOSS or not finite:
        return False
    known = [layer.forward for layer in shown.layers if layer.forward is not None]
    return len(known) > 0 and all(SPAN >= each / known[0] >= 1 / SPAN for each in known if known[0] > 0)


def _evidence(shown: Flow, ratio: str) -> str:
    """Return by which numbers a first pass is not healthy."""
    known = [layer.forward for layer in shown.layers if layer.forward is not None]
    back = [layer.backward for layer in shown.layers[:-1] if layer.backward is not None]
    words = [f"forward, variance goes from {known[0]:.2g} to {known[-1]:.2g}"] if known else []
    words += [f"backward from {back[-1]:.2g} to {back[0]:.2g}"] if back else []
    return "; ".join([*words, ratio])
