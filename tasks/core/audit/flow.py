"""What the first pass shows: one word for its health, and the layer where it goes wrong first."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from tasks.core.audit.findings import Finding
from tasks.core.audit.sample import FirstPass
from tasks.core.design.columns import START, Health
from tasks.core.training.health import DEAD, SPAN, UNTRAINED_LOSS, Signals
from tasks.core.training.meanfield import log_slope
from tasks.core.training.own import unknown
from tasks.core.training.signals import FLOW, STATE, Start

MILD = 1.5  # times the loss of a guess: from here on a first loss is told as a doubt
FORWARD, BACKWARD, NORM = (
    START.index(name) for name in ("pre_activation_variance", "gradient_variance", "weight_gradient_norm")
)
FINITE = STATE.index("finite")
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
    variance, by layer. layers: in order of execution. blocks: what flows between repeated blocks, as far as the model
    has any, in order of execution. wrong_at: the layer where it goes wrong first, if it does.
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
    blocks: tuple[LayerFlow, ...] = ()
    wrong_at: str = ""

    @property
    def ratio(self) -> float:
        """The first loss over that of a guess; infinite if the one is not finite, or the other zero."""
        return math.inf if self.loss is None or self.guess == 0 else self.loss / self.guess


def flow(first: FirstPass) -> Flow | None:
    """Return what a first pass shows, None if there was none, or no layer's outputs were seen."""
    if first.start is None or np.isnan(first.start.state[0, FINITE]).all():
        return None
    signals, judged = _signals(first.start, first.guess), _Judged.of(first.start, first.guess)
    forward, backward = signals.start["pre_activation_variance"], signals.start["gradient_variance"]
    dead, finite = signals.state["dead"][0], signals.state["finite"][0]
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = log_slope(forward[signals.seen][:-1]), log_slope(backward[signals.seen][:-1][::-1])
    return Flow(
        inputs=first.inputs,
        health=judged.signals.health,
        loss=_known(signals.first_loss),
        guess=first.guess,
        largest_class_share=_known(signals.largest_class_share),
        forward_slope=_known(slopes[0]),
        backward_slope=_known(slopes[1]),
        layers=tuple(
            LayerFlow(name=name, forward=_known(one), backward=_known(other), dead=_known(share), finite=bool(whole))
            for name, one, other, share, whole in zip(first.layers, forward, backward, dead, finite != 0, strict=True)
        ),
        blocks=tuple(
            LayerFlow(name=name, forward=_known(one), backward=_known(other), dead=None, finite=math.isfinite(one))
            for name, one, other in first.blocks
        ),
        wrong_at=judged.wrong(first.layers),
    )


def _signals(start: Start, guess: float) -> Signals:
    count = start.layers.shape[-1]
    nothing = np.zeros((0, len(STATE), count), np.float32), np.zeros((0, len(FLOW), count), np.float32)
    return Signals.of(start, 0, unknown(count), *nothing, guess)


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


@dataclass(frozen=True)
class _Judged:
    """By what a first pass is judged: some of its layers.

    A kernel of zeros may be meant, in the last layer or at the end of a branch that is added. It is meant if the last
    kernel has a gradient, which it has not behind layers that pass nothing on. Then hidden layers that give zeros are
    left out, and a last layer that does counts as the one before; no gradient comes back through it to be judged.

    kept: the places of the layers. back: those of hidden layers, among these, whose gradient counts: which is not zero,
    unless it is in the whole first quarter, and not in a branch that is scaled down. variances: of the gradient, in
    these. signals: of the layers that are kept, but the gradient's first and last variance are medians over a quarter
    of `back`, because such a branch may also begin before all other layers, or end behind them.
    """

    kept: NDArray[np.intp]
    back: NDArray[np.intp]
    variances: Array
    signals: Signals

    @classmethod
    def of(cls, start: Start, guess: float) -> "_Judged":
        """Return by what a first pass is judged, one that has seen a layer."""
        kept = np.flatnonzero(~np.isnan(start.state[0, FINITE]))
        if start.layers[0, NORM, kept[-1]] > 0:
            kept = kept[(start.layers[0, FORWARD, kept] != 0) | (kept == kept[-1])]
        layers = start.layers[..., kept]
        forward, gradient = layers[0, FORWARD], layers[0, BACKWARD, :-1]
        if forward[-1] == 0 < layers[0, NORM, -1]:
            forward[-1:], gradient[:] = (forward[-2] if len(forward) > 1 else 1), 1
        back = np.flatnonzero(~np.isnan(gradient))
        if gradient[back[: _quarter(back)]].any():
            back = back[gradient[back] != 0]
        back = back[~_scaled_down(layers[0, BACKWARD])[back]]
        variances = gradient[back].astype(np.float64) ** 2
        if len(back):
            many = _quarter(back)
            gradient[0], gradient[-1] = _median(gradient[back[:many]]), _median(gradient[back[-many:]])
        judged = replace(start, layers=layers, state=start.state[..., kept])
        return cls(kept, back, variances, _signals(judged, guess))

    def wrong(self, names: tuple[str, ...]) -> str:
        """Return the layer where the first pass goes wrong first: forward, or backward where forward all is well."""
        signals, end = self.signals, self.signals.backward[-1:] if len(self.back) else np.ones(1)
        through, finite = signals.start["pre_activation_variance"], signals.state["finite"][0]
        order = self.back[::-1]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios, returns = through / through[:1], self.variances[::-1] / end
        match signals.health:
            case "symmetric":
                bad = np.flatnonzero(signals.start["units_alike"] == 1)
            case "dead":
                bad = np.flatnonzero(signals.state["dead"][0] >= DEAD)
            case "exploding":
                large = np.flatnonzero(ratios > SPAN)
                bad = np.array([*np.flatnonzero(finite == 0), *large, *order[returns > SPAN], len(self.kept) - 1])
            case "vanishing":
                bad = np.array([*np.flatnonzero(~(ratios >= 1 / SPAN)), *order[~(returns >= 1 / SPAN)]])
            case _:
                return ""
        return names[self.kept[int(bad[0])]] if bad.size else ""


def _scaled_down(deviations: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell which layers lie in a branch that is scaled down, as by a LayerScale of 1e-6, by their gradients in order.

    There its variance is smaller by more than SPAN than in the last layer before the branch, and than behind it.

    >>> _scaled_down(np.array([1, 1e-6, 1e-6, 1], np.float32)).tolist()
    [False, True, True, False]
    """
    variances = deviations.astype(np.float64) ** 2
    behind = np.fmax.accumulate(variances[::-1])[::-1]
    found, before = np.zeros(len(variances), bool), np.nan
    for at, own in enumerate(variances):
        found[at] = SPAN * own < np.minimum(before, behind[at])
        before = before if found[at] or np.isnan(own) else own
    return found


def _quarter(layers: NDArray[np.intp]) -> int:
    return max(1, len(layers) // 4)


def _median(deviations: NDArray[np.float32]) -> float:
    """Return the median, geometric between two."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.exp(np.median(np.log(deviations.astype(np.float64)))))


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
    known = [
        layer.forward
        for layer in shown.layers
        if layer.forward is not None and (layer.forward > 0 or layer.name == shown.wrong_at)
    ]
    return len(known) > 0 and 0 not in known and all(SPAN >= each / known[0] >= 1 / SPAN for each in known)


def _evidence(shown: Flow, ratio: str) -> str:
    """Return by which numbers a first pass is not healthy."""
    known = [layer.forward for layer in shown.layers if layer.forward is not None]
    back = [layer.backward for layer in shown.layers[:-1] if layer.backward is not None]
    words = [f"forward, variance goes from {known[0]:.2g} to {known[-1]:.2g}"] if known else []
    words += [f"backward from {back[-1]:.2g} to {back[0]:.2g}"] if back else []
    return "; ".join([*words, ratio])
