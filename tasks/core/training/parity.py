"""The parity gate: the backends compute what the study asks for, and they compute the same.

Otherwise a difference between backends, or between initializers, could be a bug of this benchmark. Each backend trains
the study's own networks by the study's own recipes, for a few steps, from weights that NumPy draws. `trace` returns
what came of it, and `between` compares two backends. `laws.py` judges the weights that the frameworks draw.

How far may two right backends be apart? Their sums round in another order. Training can make such a difference larger,
for example where a unit is near the kink of its ReLU. So beside each network the gate trains twins, whose weights
differ from the network's in the last bit. What becomes of that bit tells how much a rounding error matters here.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from tasks.core.design.grid import Batch
from tasks.core.design.initializers import Backend, Orthogonal, named
from tasks.core.design.settings import CellSettings, Network, Recipe, source
from tasks.core.training import datasets, seeds
from tasks.core.training.backend import Framework, Stack, Weights
from tasks.core.training.datasets import Floats, Fold
from tasks.core.training.laws import Finding
from tasks.core.training.weights import evaluated, fans, with_unit_variance

LEVELS = 16  # of one gate, as many as a trainer keeps compiled programs
CELLS = 128  # the largest batch that trains together
STEPS = 4  # at least; an optimizer with momentum shows what it does from its second step on
MOST_STEPS = 64  # of an epoch; a longer one is cut
TWINS = 15
ATTEMPTS = 3  # after which a finding beyond its bound is a fault
BIAS_STD = 0.3  # biases start away from zero, so that a decay of biases shows
COMPARED = 4096  # weights of each kernel and bias that are compared, evenly spread
ROUNDING = 2.0**-23  # float32's distance from 1 to the next number
FACTOR = 4.0  # right backends were at most 0.8 times as far apart as twins and floor
FLOOR = 4.0  # units of ROUNDING
# In float32 1 - 0.999, by whose root Adam divides its first step, is wrong by up to 2^-14 of itself
ADAM = 2.0**-15
CLEAR = 1e-3  # a row whose two largest logits are closer, relative to the largest of all, may be classed either way
TOLD = 3  # findings that an error tells in words


class ParityError(RuntimeError):
    """The backends disagree, or one of them does not compute what it should."""


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Level(Frozen):
    """Settings of which the gate trains a network.

    cells: how many cells of these settings the study trains at once. seed: of split, order of rows, weights and twins.
    initializer: what a network of one's own starts from; its settings name the builders of both backends.
    """

    settings: CellSettings
    cells: int
    seed: int = 0
    initializer: str = ""

    def __str__(self) -> str:
        if own := self.settings.own:
            options = [f"{name} {value}" for name, value in own.options.items()]
            return " · ".join([source(self.settings.dataset), *own.build.values(), *options, self.initializer])
        network, recipe = self.settings.perceptron, self.settings.recipe
        parts = [network.normalization, "residual" * network.residual, "decay" * bool(recipe.weight_decay)]
        parts += ["clipped" * bool(recipe.clip_norm or recipe.clip_value), f"rate {recipe.learning_rate:g}"]
        words = [source(self.settings.dataset), f"{len(network.units)} x {network.activation}", *parts]
        return " · ".join([*(word for word in words if word not in ("", "none")), recipe.optimizer])


class Asked(Frozen):
    """What a gate checks: levels, and laws that a framework draws from, each under settings that ask for it."""

    levels: tuple[Level, ...]
    drawn: tuple[tuple[CellSettings, str], ...]

    @classmethod
    def of(cls, batches: Sequence[Batch]) -> "Asked":
        """Return what to check before cells of these batches are compared.

        Levels that differ in nothing that a backend computes, such as the seed of the order, are one. There are at most
        LEVELS of them; those with a value of some setting that no earlier one has come first.
        """
        cells: Counter[CellSettings] = Counter()
        drawn: dict[object, tuple[CellSettings, str]] = {}
        for batch in batches:
            settings = batch.settings
            if settings.own:
                continue  # `_of_own` has these
            cells[settings] += len(batch.cells)
            for label in sorted(_labels(batch)) if settings.weights == "native" else ():
                law = named(label).law.under(settings.perceptron.activation)
                if law.native:
                    drawn.setdefault(law, (settings, label))
        levels: dict[str, Level] = {}
        for settings, count in cells.items():
            level = Level(settings=settings, cells=min(count, CELLS))
            levels.setdefault(str(sorted(_computed(settings).items())), level)
        found = [*_new_values_first(levels.values())[:LEVELS], *_of_own(batches)[:LEVELS]]
        return cls(levels=tuple(found), drawn=tuple(drawn.values()))

    def anew(self) -> "Asked":
        """Return the same check with other splits, orders, weights and twins.

        A fault shows with all of them. In a few of them training makes a rounding error larger than the twins show.
        """
        return Asked(
            levels=tuple(each.model_copy(update={"seed": each.seed + 1}) for each in self.levels), drawn=self.drawn
        )


def _of_own(batches: Sequence[Batch]) -> list[Level]:
    """Return a level for each network of one's own that both backends start from shared weights."""
    found: dict[str, dict[Backend, Batch]] = {}
    for batch in batches:
        if batch.settings.own and batch.settings.weights == "shared" and batch.cells:
            name = str((batch.settings.own.options, batch.settings.own.rules, batch.settings.shared.recipe))
            found.setdefault(name, {})[batch.backend] = batch
    levels = []
    for both in found.values():
        first = next(iter(both.values()))
        networks = [own for each in both.values() if (own := each.settings.own)]
        builders = {backend: own.build[backend] for backend, own in zip(both, networks, strict=True)}
        code = {backend: own.code.get(backend, "") for backend, own in zip(both, networks, strict=True)}
        whole = first.settings.model_copy(
            update={"network": networks[0].model_copy(update={"build": builders, "code": code})}
        )
        if len(both) > 1:
            levels.append(Level(settings=whole, cells=1, initializer=first.cells[0].initializer))
    return levels


def _labels(batch: Batch) -> set[str]:
    """Return the initializers that draw kernels of a batch's cells."""
    output = batch.settings.perceptron.output_initializer
    return {cell.initializer for cell in batch.cells} | ({output} - {"same"})


def _computed(settings: CellSettings) -> dict[str, Any]:
    """Return those settings that decide what a backend computes from given weights and an order of rows."""
    network = settings.network.model_dump(exclude={"weights_seed", "output_initializer", "bias"})
    recipe = settings.recipe.model_dump(exclude={"epochs", "shuffle", "order_seed"})
    return {**network, **recipe, "dataset": source(settings.dataset), "test": settings.split.test_fraction}


def _new_values_first(levels: Iterable[Level]) -> list[Level]:
    seen: set[str] = set()
    known = {}
    for level in levels:
        values = {str(each) for each in _computed(level.settings).items()}
        known[level] = values <= seen
        seen |= values
    return sorted(known, key=known.__getitem__)


class Trace(Frozen):
    """What a backend computed of one level.

    values: the network's numbers by name: `weights` after the last step (at most COMPARED of each kernel and bias),
    `losses` on train and test rows after each epoch, and `logits` of the test rows. allowed: by the same names, how far
    another backend's may be from them. findings: whether the backend's own numbers fit together.
    """

    values: dict[str, list[float]]
    allowed: dict[str, float]
    findings: list[Finding]


def trace(framework: Framework, level: Level) -> Trace:
    """Train a level's network and its twins for a few steps, and return what came of it.

    Everything is done twice, and the second time counts: a program that keeps something of its last batch shows it.
    """
    settings, seed, dataset = level.settings, level.seed, datasets.load(level.settings.dataset)
    network, recipe, problem = settings.perceptron, aligned(settings.recipe), dataset.problem
    fold = datasets.divide(dataset, settings.split, seed)
    sizes = fans(network, problem.shape[0], problem.outputs)
    stray = ADAM if "adam" in recipe.optimizer else 0.0
    given = _initial(network, sizes, fold.x_train, stray * recipe.learning_rate, seed)
    program = framework.program(
        network, aligned(settings.shared.recipe), sizes, max(level.cells, 1 + TWINS), problem.task
    )
    stack, order = Stack.of([fold] * (1 + TWINS)), _order(len(fold.y_train), recipe, seed)
    rates = [recipe.learning_rate] * (1 + TWINS)
    program.start(stack, given, rates)
    before, untrained = _some(program.weights()), program.logits()
    program.run(order)
    program.start(stack, given, rates)
    scores, weights, logits = program.run(order).scores, _some(program.weights()), program.logits()
    moved = {"weights": stray * _largest(weights[0] - before[0]), "logits": stray * _largest(logits[0] - untrained[0])}
    losses = np.moveaxis(scores[:, :, :2], 1, 0)
    found = {"weights": weights, "losses": losses.reshape(1 + TWINS, -1), "logits": logits.reshape(1 + TWINS, -1)}
    subject = f"{framework.NAME} · {level}"
    return Trace(
        values={name: values[0].tolist() for name, values in found.items()},
        allowed={name: allowed(values, moved.get(name, moved["logits"])) for name, values in found.items()},
        findings=[
            _as_formula(subject, network, given, fold, untrained),
            *_as_scored(subject, fold, logits[0], scores[-1, 0]),
        ],
    )


def aligned(recipe: Recipe) -> Recipe:
    """Return the recipe, with a number for ε in place of each framework's own, which is meant to differ."""
    default = Recipe.model_fields["epsilon"].default
    return recipe.model_copy(update={"epsilon": default}) if recipe.epsilon == "framework" else recipe


def _initial(network: Network, sizes: Sequence[int], x: Floats, stray: float, seed: int) -> Weights:
    """Return weights of a network and its twins, stacked: orthogonal kernels, rescaled to unit variance, and biases.

    A twin has the next number above or below in place of each weight, or one that is `stray` further.
    """
    rng = np.random.default_rng(seeds.stream(seed, "weights"))
    weights: Weights = []
    for fan_in, fan_out in pairwise(sizes):
        weights += [Orthogonal().draw(fan_in, fan_out, rng=rng), rng.normal(0, BIAS_STD, fan_out)]
    own = [array.astype(np.float32) for array in with_unit_variance(weights, range(len(sizes) - 1), network, x)]
    return [np.stack([array, *(_moved(array, stray, rng) for _ in range(TWINS))]) for array in own]


def _moved(array: NDArray[np.floating], stray: float, rng: np.random.Generator) -> NDArray[np.floating]:
    sign = np.where(rng.integers(2, size=array.shape), 1, -1).astype(array.dtype)
    return np.nextafter(array + sign * np.float32(stray), sign * np.inf)


def _order(rows: int, recipe: Recipe, seed: int) -> NDArray[np.int32]:
    """Return orders of the train rows, the same for the network and its twins: (epochs, 1 + TWINS, rows)."""
    return np.repeat(short_order(rows, recipe, seed)[:, None], 1 + TWINS, axis=1)


def short_order(rows: int, recipe: Recipe, seed: int) -> NDArray[np.int32]:
    """Return an order of the train rows that takes a few steps, (epochs, rows)."""
    size = rows if recipe.batch_size == "full" else min(recipe.batch_size, rows)
    steps = -(-rows // size)
    used = rows if steps <= MOST_STEPS else (MOST_STEPS - 1) * size + (rows % size or size)
    return datasets.visits(rows, -(-STEPS // steps), seed, shuffle=True)[:, :used]


def _some(weights: Weights) -> NDArray[np.floating]:
    """Return a row of weights for each cell: at most COMPARED of each kernel and bias."""
    rows = [array.reshape(len(array), -1) for array in weights]
    return np.concatenate([each[:, :: -(-each.shape[1] // COMPARED)] for each in rows], axis=1)


def _largest(values: NDArray[np.floating]) -> float:
    return float(np.abs(values).max())


def allowed(values: NDArray[np.floating], stray: float = 0.0) -> float:
    """Return how far another backend's numbers may be from those of a network; the twins' numbers are in further rows.

    It is FACTOR (d + FLOOR · ROUNDING · m) + stray. d is the distance of the farthest twin, and m the largest number,
    or 1. stray is what the rounding of Adam's step size makes: ADAM times the way that the numbers went in training.

    >>> allowed(np.array([[0.5, -2.0]])) == 4 * 4 * 2**-23 * 2
    True
    """
    distance = _largest(values[1:] - values[0]) if len(values) > 1 else 0.0
    return FACTOR * (distance + FLOOR * ROUNDING * max(1.0, _largest(values[0]))) + stray


def _as_formula(subject: str, network: Network, weights: Weights, fold: Fold, logits: Floats) -> Finding:
    """Hold the logits of the untrained network against the formula, computed in float64."""
    expected = evaluated([array[0] for array in weights], network, fold.x_test)
    gap = _largest(logits[0] - expected)
    return Finding(subject, "logits before training, against the formula", gap, allowed(logits))


def _as_scored(subject: str, fold: Fold, logits: Floats, scores: Floats) -> list[Finding]:
    """Hold the scores of the test rows against the network's logits, or real outputs, on these rows."""
    z = logits.astype(np.float64)
    if fold.real:
        squares, around = ((z - fold.y_test) ** 2), ((fold.y_test - fold.y_test.mean(0)) ** 2)
        loss, share = abs(scores[1] - squares.mean()), abs(scores[3] - (1 - squares.sum() / around.sum()))
        return [
            Finding(subject, "test loss, against the test rows' outputs", float(loss), allowed(squares[None])),
            Finding(subject, "R², against the test rows' outputs", float(share), allowed(squares[None])),
        ]
    losses = np.log(np.exp(z - z.max(1, keepdims=True)).sum(1)) + z.max(1) - z[np.arange(len(z)), fold.y_test]
    lower, upper = np.sort(z, axis=1)[:, -2:].T
    near = float((upper - lower <= CLEAR * np.abs(z).max()).mean())
    accuracy = (z.argmax(1) == fold.y_test).mean()
    apart = float(abs(scores[1] - losses.mean())), float(abs(scores[3] - accuracy))
    return [
        Finding(subject, "test loss, against the test rows' logits", apart[0], allowed(z[None])),
        Finding(subject, "test accuracy, against the test rows' logits", apart[1], near + ROUNDING),
    ]


def between(level: Level, traces: Mapping[Backend, Trace]) -> list[Finding]:
    """Compare the backends' numbers of one level, name by name; of one backend there is nothing to compare.

    Numbers are not compared where training diverges in every backend, because then the last bit decides everything.
    """
    if len(traces) < 2:
        return []
    (one, ours), (other, theirs) = traces.items()
    bounds = {name: np.fmin(ours.allowed[name], theirs.allowed[name]) for name in ours.values}
    return [
        Finding(
            f"{one}, {other} · {level}",
            f"{name}, against each other",
            _largest(np.array(ours.values[name]) - np.array(theirs.values[name])),
            float(bound),
        )
        for name, bound in bounds.items()
        if np.isfinite(bound)
    ]


class Answer(Frozen):
    """What a gate asked of one backend: the traces of all levels in turn, and the findings on its laws."""

    traces: tuple[Trace, ...]
    drawn: tuple[Finding, ...]


def findings(asked: Asked, answers: Mapping[Backend, Answer]) -> list[Finding]:
    """Return everything that a gate found: of each level, then of each law."""
    found = []
    for at, level in enumerate(asked.levels):
        traces = {backend: answer.traces[at] for backend, answer in answers.items()}
        found += [finding for each in traces.values() for finding in each.findings]
        found += between(level, traces)
    return found + [finding for answer in answers.values() for finding in answer.drawn]


def judge(found: Sequence[Finding]) -> None:
    """Check that all findings are within their bounds.

    Raises:
        ParityError: if one is not; it tells the worst.
    """
    beyond = sorted((each for each in found if not each.held), key=lambda each: -each.share)
    if beyond:
        more = f"; and {len(beyond) - TOLD} more" if len(beyond) > TOLD else ""
        worst = "; ".join(map(str, beyond[:TOLD]))
        raise ParityError(f"the backends must compute what the study asks for. {worst}{more}")
