"""What a user asks for: one frozen model that the YAML files, the command line and the Prefect form share."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product, takewhile
from math import ceil
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    field_validator,
    model_validator,
)

from tasks.core.activations import ActivationName
from tasks.core.initializers import BACKENDS, Backend, label, named, names

MAX_CELLS = 10_000  # the table, the MLflow page and Prefect's server were all tried up to here
WORKER_BATCH = 64  # cells of one run on a worker, which takes seconds to start, and is run again whole if it dies
ADAM_EPSILON: dict[Backend, str] = {"pytorch": "1e-08 after bias correction", "keras": "1e-07 before it"}
FRAMEWORK_BIAS: dict[Backend, str] = {"pytorch": "U(±1/√fan_in)", "keras": "zeros"}

T = TypeVar("T")


def _axis(values: tuple[T, ...]) -> tuple[T, ...]:
    if not values:
        raise ValueError("at least one value is needed")
    repeated = sorted({str(value) for value in values if values.count(value) > 1})
    if repeated:
        raise ValueError(f"values must be distinct; given more than once: {', '.join(repeated)}")
    return values


Seed = Annotated[int, Field(ge=0, lt=2**32)]
OneSeed = Seed | Literal["cell"]
Units = Annotated[int, Field(ge=1, le=4096)]
Depth = Annotated[int, Field(ge=1, le=100)]
Scalar = bool | int | float | str
Level = tuple[str, Scalar]
"""A factor and the value, or the name of the set of settings, that it has in a cell; `none` for an empty value."""
NONE = "none"
NAME = re.compile(r"\w[\w .\-]*")  # what MLflow takes as the name of a setting


class _InitializerSchema:
    """What the JSON schema says of an initializer; asked for late, since installed packages add their own."""

    def __get_pydantic_json_schema__(self, core_schema: object, handler: GetJsonSchemaHandler) -> dict[str, object]:
        with_parameters = {"type": "string", "pattern": r"^\w+\(.*\)$"}
        as_mapping = {"type": "object", "required": ["name"], "properties": {"name": {"enum": names()}}}
        return {"anyOf": [{"type": "string", "enum": names()}, with_parameters, as_mapping]}


def _labelled(given: object) -> object:
    return label(given) if isinstance(given, str | Mapping) else given


InitializerLabel = Annotated[str, BeforeValidator(_labelled), _InitializerSchema()]


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class Split(Settings):
    """How rows are divided into train and test."""

    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of rows held out for the test."""
    stratified: bool = True
    """Keep each class's share equal in train and test."""
    seed: OneSeed = "cell"
    """One split for every cell, by its seed; or `cell`, a new split for each of the study's seeds."""
    scaler: Literal["train", "all"] = "train"
    """Rows whose mean and standard deviation scale the features; `all` lets the test rows leak in."""


class Network(Settings):
    """The multilayer perceptron that every cell trains."""

    hidden: Annotated[tuple[Units, ...], Field(max_length=100)] = (64, 32)
    """Units of each hidden layer, first to last."""
    width: Units | None = None
    """With depth, instead of hidden: units of every hidden layer."""
    depth: Depth | None = None
    """With width, instead of hidden: how many hidden layers."""
    activation: ActivationName = "relu"
    """Activation of the hidden layers; the output layer gives logits. leaky_relu's slope is 0.01, gelu is exact."""
    normalization: Literal["none", "batch", "layer"] = "none"
    """Of each hidden layer's pre-activations: over the rows of a batch, or over the units of a layer."""
    residual: bool = False
    """Add to each hidden layer's output its input, where both have as many units."""
    output_initializer: Literal["same", "glorot_normal"] = "same"
    """Initializer of the output layer: the hidden layers' own, or always glorot_normal."""
    bias: Literal["zeros", "framework"] = "zeros"
    """Biases at the start: zeros, for pytorch_default too; or each framework's default."""
    weights_seed: OneSeed = "cell"
    """One draw of weights for every cell, by its seed; or `cell`, a new draw for each of the study's seeds."""

    @model_validator(mode="after")
    def _width_goes_with_depth(self) -> Self:
        if (self.width is None) != (self.depth is None):
            raise ValueError(f"width and depth go together; got width {self.width} and depth {self.depth}")
        if self.width and self.hidden != type(self).model_fields["hidden"].default:
            raise ValueError("units are given by hidden, or by width and depth, not by both")
        return self

    @property
    def units(self) -> tuple[int, ...]:
        """Units of each hidden layer, however they were given."""
        return (self.width,) * self.depth if self.width and self.depth else self.hidden

    @property
    def spelled_out(self) -> "Network":
        """The same network with its units in `hidden`."""
        return self.model_copy(update={"hidden": self.units, "width": None, "depth": None})


Optimizer = Literal["adam", "adamw", "sgd", "momentum"]
LearningRate = Annotated[float, Field(gt=0)]
BatchSize = Annotated[int, Field(ge=1)] | Literal["full"]
Epochs = Annotated[int, Field(ge=1, le=10_000)]
Epsilon = Annotated[float, Field(gt=0)] | Literal["framework"]
Momentum = Annotated[float, Field(gt=0, lt=1)]
WeightDecay = Annotated[float, Field(ge=0)]
Clip = Annotated[float, Field(gt=0)]


class Recipe(Settings):
    """How every cell is trained."""

    optimizer: Optimizer = "adam"
    """Update rule; the betas of adam and adamw are 0.9 and 0.999 in both backends."""
    learning_rate: LearningRate = 0.01
    """Step size."""
    batch_size: BatchSize = 32
    """Rows of one step, or `full`."""
    epochs: Epochs = 20
    """Passes over the train rows."""
    shuffle: bool = True
    """Draw a new order of the rows for every epoch."""
    order_seed: OneSeed = "cell"
    """One course of orders for every cell, by its seed; or `cell`, a new one for each of the study's seeds."""
    epsilon: Epsilon = 1e-8
    """Adam's ε, added after bias correction in both backends; or `framework`, each one's own number and place."""
    momentum: Momentum = 0.9
    """Share of the last step that `momentum` keeps."""
    weight_decay: WeightDecay = 0.0
    """Of kernels alone: an L2 penalty of half so much times their squares, or adamw's decoupled decay."""
    clip_norm: Clip | None = None
    """Largest norm of the gradient of all weights together, cell by cell."""
    clip_value: Clip | None = None
    """Largest absolute value of any component of the gradient."""

    @model_validator(mode="after")
    def _one_kind_of_clipping(self) -> Self:
        if self.clip_norm and self.clip_value:
            raise ValueError("clip by norm or by value, not both; got clip_norm and clip_value")
        return self


class RecipeChanges(Settings):
    """What one backend does otherwise; an empty field keeps the recipe's value."""

    optimizer: Optimizer | None = None
    learning_rate: LearningRate | None = None
    batch_size: BatchSize | None = None
    epochs: Epochs | None = None
    shuffle: bool | None = None
    epsilon: Epsilon | None = None
    momentum: Momentum | None = None
    weight_decay: WeightDecay | None = None
    clip_norm: Clip | None = None
    clip_value: Clip | None = None


class CsvFile(Settings):
    """A comma-separated file with a header: numeric features, and a column of classes."""

    path: str
    """Where it is, in a folder that INITBENCH_DATA lists or, without that, in the current one."""
    target: str
    """The column that holds the classes; all others are features."""


Verdict = Literal["healthy", "vanishing", "exploding", "dead", "symmetric"]
CellMeasure = Literal[
    "test_accuracy",
    "test_loss",
    "brier_score",
    "loss_area",
    "train_accuracy",
    "train_loss",
    "epochs_to_target",
    "forward_slope",
    "forward_slope_theory",
    "backward_slope",
    "backward_slope_theory",
    "jacobian_largest",
    "jacobian_smallest",
    "jacobian_mean_square",
    "jacobian_condition",
    "first_loss",
    "first_loss_ratio",
    "largest_class_share",
    "gradient_quotient",
    "dead_at_start",
    "dead_at_end",
    "saturated_at_start",
    "saturated_at_end",
]


MarginMeasure = Literal["test_accuracy", "test_loss", "brier_score", "loss_area", "epochs_to_target", "train_seconds"]

RESERVED = {*get_args(CellMeasure)} | {
    *("study", "backend", "initializer", "seed", "status", "reason", "run_id", "verdict", "train_seconds", "test_rows"),
    *("horizon", "cells", "finished", "diverged", "failed", "epoch", "layer", "row", "lucky", "forward", "backward"),
    *(
        "measure",
        "left",
        "right",
        "run",
        "rival",
        "value",
        "hole",
        "missed",
        "n",
        "left_out",
        "difference",
        "low",
        "high",
    ),
    *("sd", "effect_size", "better_share", "better_share_low", "better_share_high", "p", "p_equivalent", "margin"),
    *("more_seeds", "verdict_cells", "target_missed", "native", "shared", "equal", "in", "key"),
}
"""Columns of tables, whose names a factor cannot have."""


class Check(Settings):
    """A claim about a study's outcome, to be held against its cells, each backend's for themselves."""

    claim: str
    """What is claimed, in words."""
    measure: CellMeasure | Literal["diverged"] | Verdict
    """A measure, of which the median over the cells is taken; or a verdict or `diverged`, of which it is the share."""
    where: dict[str, Scalar] = {}
    """The cells that are meant: a value of `initializer` or of factors."""
    against: dict[str, Scalar] | None = None
    """Cells by whose median the median is divided."""
    at_least: float | None = None
    """The claim does not hold below this."""
    at_most: float | None = None
    """The claim does not hold above this."""

    @field_validator("where", "against")
    @classmethod
    def _one_spelling(cls, where: dict[str, Scalar] | None) -> dict[str, Scalar] | None:
        return where and {axis: label(str(value)) if axis == "initializer" else value for axis, value in where.items()}

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError("a check needs at_least, at_most or both")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"at_least must not exceed at_most; got {self.at_least} and {self.at_most}")
        return self


@dataclass(frozen=True)
class Cell:
    """One point of the grid."""

    backend: Backend
    initializer: str
    seed: int
    levels: tuple[Level, ...] = ()

    def __str__(self) -> str:
        levels = [f"{short(factor)} {level}" for factor, level in self.levels]
        return " · ".join([self.backend, *levels, self.initializer, f"seed {self.seed}"])


def short(factor: str) -> str:
    """Return a factor's name as people read it.

    >>> short("network.depth"), short("remedy")
    ('depth', 'remedy')
    """
    return factor.rpartition(".")[2]


@dataclass(frozen=True)
class Batch:
    """Cells of one backend and one level of every factor, that one task trains and records."""

    cells: tuple[Cell, ...]

    @property
    def backend(self) -> Backend:
        return self.cells[0].backend

    def __str__(self) -> str:
        first, *others = self.cells
        return f"{self.backend} · {len(self.cells)} cells" if others else str(first)


@dataclass(frozen=True)
class Platform:
    """What decides a cell's numbers beside its study.

    frameworks: the version of each backend's framework; device: `cpu` or the GPU's model; release: initbench's
    Major.Minor; data: the checksum of each of the study's datasets.
    """

    frameworks: Mapping[Backend, str]
    device: str
    release: str
    data: Mapping[str, str]


class Study(Settings):
    """A benchmark: data, network and recipe, and the axes of the grid: backends, initializers and seeds."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=60)] = "iris"
    """Names the MLflow experiment, initbench/<name>: lower-case letters, digits and dashes."""
    backends: Annotated[tuple[Backend, ...], AfterValidator(_axis)] = BACKENDS
    """Frameworks to train in."""
    initializers: Annotated[tuple[InitializerLabel, ...], AfterValidator(_axis)] = (
        "glorot_normal",
        "glorot_uniform",
        "he_normal",
        "he_uniform",
        "orthogonal",
        "pytorch_default",
        "random_normal",
        "zeros",
    )
    """Initializers of the hidden layers: names, or `{name: random_normal, std: 0.01}`."""
    factors: dict[str, tuple[Scalar | None, ...] | dict[str, dict[str, Scalar | None]]] = {}
    """More axes: a setting of network, recipe or split, or `dataset` or `weights`, with its values; or a name with
    named sets of such settings."""
    seeds: Annotated[int, Field(ge=1, le=MAX_CELLS)] | Annotated[tuple[Seed, ...], AfterValidator(_axis)] = 10
    """How many seeds, counted from 0; or the seeds themselves. A seed fixes split, batch order and weights."""
    dataset: Literal["iris", "wine", "breast_cancer", "digits"] | CsvFile = "iris"
    """Data to learn: one that scikit-learn bundles, or a CSV file."""
    split: Split = Split()
    network: Network = Network()
    recipe: Recipe = Recipe()
    overrides: dict[Backend, RecipeChanges] = {}
    """Changes to the recipe for one backend; they make the backends incomparable, and the table says so."""
    weights: Literal["native", "shared"] = "native"
    """Each framework's own initializer, or one NumPy draw copied into both."""
    target: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Test accuracy that counts as reached."""
    margins: dict[MarginMeasure, Annotated[float, Field(gt=0)]] = {}
    """Differences too small to matter, in the unit of each measure; without one for test_accuracy, one test row."""
    reported: dict[Backend, Annotated[float, Field(ge=0, le=1)]] = {}
    """Test accuracies published elsewhere, to be placed in the distribution over seeds."""
    checks: tuple[Check, ...] = ()
    """Claims to be held against the outcome."""
    controls: str | None = "controls"
    """A study that ships, trained along; unless its checks hold, the benchmark is invalid."""
    max_tasks: Annotated[int, Field(ge=1, le=1000)] = 200
    """Up to this many cells, each is a Prefect task of its own; beyond, cells of a backend share tasks. Workers take up
    to 64 cells at once."""
    runner: Literal["local", "workers"] = "local"
    """Where cells train: on this machine, or on workers of the work pools pytorch and keras, in batches."""

    @field_validator("factors")
    @classmethod
    def _levels_are_distinct(cls, factors: dict[str, Any]) -> dict[str, Any]:
        for factor, levels in factors.items():
            named_as_measure = any(short(factor).startswith(f"{measure}_") for measure in get_args(CellMeasure))
            if short(factor) in RESERVED or named_as_measure:
                raise ValueError(f"a factor needs a name of its own; {short(factor)!r} is a column of every table")
            if isinstance(levels, dict) and factor in ("dataset", "weights"):
                raise ValueError(f"{factor} is a setting: give a list of its values, or name the sets otherwise")
            if isinstance(levels, tuple) and factor not in _settable():
                raise ValueError(f"no setting {factor!r} to go with a list; choose one of {', '.join(_settable())}")
            for name in (factor, *(levels if isinstance(levels, dict) else ())):
                if not NAME.fullmatch(name):
                    raise ValueError(f"names of factors and levels are letters, digits, spaces and .-_; got {name!r}")
            try:
                _axis(tuple(levels))
            except ValueError as error:
                raise ValueError(f"{factor}: {error}") from None
        if len({short(factor) for factor in factors}) < len(factors):
            raise ValueError(f"factors must differ in their last word; got {', '.join(factors)}")
        touched = [
            {name for changes in levels.values() for name in changes} if isinstance(levels, dict) else {factor}
            for factor, levels in factors.items()
        ]
        twice = sorted(name for name in set().union(*touched) if sum(name in each for each in touched) > 1)
        if twice:
            raise ValueError(f"a setting belongs to one factor; more than one sets {', '.join(twice)}")
        return factors

    @model_validator(mode="after")
    def _grid_is_bounded(self) -> Self:
        size = len(self.backends) * len(self.initializers) * len(self.seed_list)
        for levels in self.factors.values():
            size *= len(levels)
        if size > MAX_CELLS:
            raise ValueError(f"the grid must have at most {MAX_CELLS:,} cells; this one has {size:,}")
        return self

    @model_validator(mode="after")
    def _overrides_leave_a_recipe(self) -> Self:
        for backend, changes in self.overrides.items():
            try:
                Recipe.model_validate(self.recipe.model_dump() | changes.model_dump(exclude_none=True))
            except ValidationError as error:
                raise ValueError(f"overrides.{backend}: {_rule(error)}") from None
        return self

    @model_validator(mode="after")
    def _every_level_is_valid(self) -> Self:
        for levels in self.levels():
            self.at(levels)
            for factor, level in levels:
                both = [name for name in self._settings(factor, level) if name.partition(".")[2] in self._overridden]
                if both:
                    raise ValueError(f"{both[0]} is a factor, so overrides must leave it alone")
        return self

    @model_validator(mode="after")
    def _checks_name_axes(self) -> Self:
        axes = ("initializer", *map(short, self.factors))
        for check in self.checks:
            for axis in (*check.where, *(check.against or {})):
                if axis not in axes:
                    raise ValueError(f"check {check.claim!r}: no axis {axis!r}; choose one of {', '.join(axes)}")
        return self

    @model_validator(mode="after")
    def _shared_weights_have_shared_biases(self) -> Self:
        if self.weights == "shared" and self.network.bias == "framework":
            raise ValueError("weights: shared needs network.bias: zeros, for a framework's own biases are not shared")
        return self

    @property
    def _overridden(self) -> set[str]:
        return {name for changes in self.overrides.values() for name in changes.model_dump(exclude_none=True)}

    @property
    def datasets(self) -> list[str | CsvFile]:
        """The datasets of its levels, each once."""
        return list(dict.fromkeys(self.at(levels).dataset for levels in self.levels()))

    def levels(self) -> list[tuple[Level, ...]]:
        """Return every combination of the factors' levels; a study without factors has one, the empty one."""
        return list(product(*([(factor, level) for level in self._levels_of(factor)] for factor in self.factors)))

    def _levels_of(self, factor: str) -> list[Scalar]:
        return [NONE if level is None else level for level in self.factors[factor]]

    def _settings(self, factor: str, level: Scalar) -> Mapping[str, Scalar | None]:
        levels = self.factors[factor]
        if isinstance(levels, dict):
            return levels[str(level)]
        return {factor: None if level == NONE and None in levels else level}

    def at(self, levels: Sequence[Level]) -> "Study":
        """Return the study with the factors at these levels, and without factors and what hangs on them.

        Raises:
            ValueError: if a level is not allowed.
        """
        if not self.factors:
            return self
        given = self.model_dump(exclude={"factors", "checks"})
        settings = {name: value for factor, level in levels for name, value in self._settings(factor, level).items()}
        for name, value in settings.items():
            if name not in _settable():
                raise ValueError(f"factors: no setting {name!r}; choose one of {', '.join(_settable())}")
            group, _, field = name.rpartition(".")
            (given[group] if group else given)[field] = value
        try:
            return type(self).model_validate(given)
        except ValidationError as error:
            place = takewhile(lambda step: "[" not in step, map(str, error.errors()[0]["loc"]))  # not what was tried
            where = ".".join(place) or ", ".join(settings)
            raise ValueError(f"factors: {where}: {_rule(error)}; got {settings}") from None

    @property
    def summary(self) -> str:
        """The study and the extent of its grid in one line.

        >>> Study(backends=("keras",), factors={"network.depth": (2, 4)}, network=Network(width=8, depth=2)).summary
        'iris · keras · 2 depth · 8 initializers · 10 seeds'
        >>> Study(seeds=1).summary
        'iris · 2 backends · 8 initializers · seed 0'
        """
        axes = {
            "backends": self.backends,
            **{short(factor): self._levels_of(factor) for factor in self.factors},
            "initializers": self.initializers,
            "seeds": [f"seed {seed}" for seed in self.seed_list],
        }
        words = [str(values[0]) if len(values) == 1 else f"{len(values)} {name}" for name, values in axes.items()]
        return " · ".join([self.name, *words])

    @property
    def spelled_out(self) -> "Study":
        """The same study with its network's units in `hidden`."""
        return self.model_copy(update={"network": self.network.spelled_out})

    @property
    def seed_list(self) -> tuple[int, ...]:
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds

    def recipe_for(self, backend: Backend) -> Recipe:
        """Return the recipe with the backend's changes; what its optimizer does not use is at its default."""
        changes = self.overrides.get(backend, RecipeChanges()).model_dump(exclude_none=True)
        recipe = self.recipe.model_copy(update=changes)
        unused = {"adam": ["momentum"], "adamw": ["momentum"], "sgd": ["momentum", "epsilon"], "momentum": ["epsilon"]}
        defaults = {name: Recipe.model_fields[name].default for name in unused[recipe.optimizer]}
        return recipe.model_copy(update=defaults)

    def cells(self) -> list[Cell]:
        """Return the grid: backend by backend, level by level, initializer by initializer, seed by seed."""
        axes = product(self.backends, self.levels(), self.initializers, self.seed_list)
        return [Cell(backend, initializer, seed, levels) for backend, levels, initializer, seed in axes]

    def batches(self, cells: Sequence[Cell]) -> list[Batch]:
        """Divide cells into about `max_tasks` batches of one backend and level each, as even as can be.

        For workers there are as few as hold WORKER_BATCH cells at most.

        >>> study = Study(seeds=3, initializers=("zeros",), max_tasks=2)
        >>> [str(batch) for batch in study.batches(study.cells())]
        ['pytorch · 3 cells', 'keras · 3 cells']
        """
        most = max(1, ceil(len(cells) / self.max_tasks)) if self.runner == "local" else WORKER_BATCH
        alike: dict[object, list[Cell]] = {}
        for cell in cells:
            alike.setdefault((cell.backend, cell.levels), []).append(cell)
        batches = []
        for row in alike.values():
            size = ceil(len(row) / ceil(len(row) / most))
            batches += [Batch(tuple(row[at : at + size])) for at in range(0, len(row), size)]
        return batches

    def has_cells_for(self, check: Check) -> bool:
        """Tell whether the grid has cells that a check is about."""
        axes: dict[str, Sequence[Scalar]] = {short(factor): self._levels_of(factor) for factor in self.factors}
        axes["initializer"] = self.initializers
        return all(value in axes[axis] for axis, value in (*check.where.items(), *(check.against or {}).items()))

    def settings(self, backend: Backend, levels: Sequence[Level]) -> dict[str, Any]:
        """Return all that a study decides of a cell's outcome but its initializer and seed."""
        study = self.at(levels)
        return {
            "backend": backend,
            "network": study.network.spelled_out.model_dump(),
            "recipe": study.recipe_for(backend).model_dump(),
            **study.model_dump(include={"dataset", "split", "weights"}),
        }

    def settings_key(self, backend: Backend, levels: Sequence[Level], platform: Platform) -> str:
        """Hash all that decides a cell's outcome but its initializer and seed."""
        decisive = {
            **self.settings(backend, levels),
            "framework": platform.frameworks[backend],
            "device": platform.device,
            "release": platform.release,
            "dataset": platform.data[source(self.at(levels).dataset)],  # what is in it, not what it is called
        }
        return _digest(decisive)

    def cell_key(self, cell: Cell, platform: Platform) -> str:
        """Hash all that decides a cell's outcome; the order and extent of the axes do not enter."""
        return self._key(cell, self.settings_key(cell.backend, cell.levels, platform))

    def cell_keys(self, platform: Platform) -> dict[Cell, str]:
        """Return the key of every cell of the grid."""
        settings = {
            (backend, levels): self.settings_key(backend, levels, platform)
            for backend, levels in product(self.backends, self.levels())
        }
        return {cell: self._key(cell, settings[cell.backend, cell.levels]) for cell in self.cells()}

    def _key(self, cell: Cell, settings: str) -> str:
        return _digest([settings, cell.initializer, named(cell.initializer).release, cell.seed])

    def backend_differences(self) -> list[str]:
        """Name what keeps the backends from being compared; empty if they are comparable."""
        if len(self.backends) < 2:
            return []
        one, other = self.backends
        ours, theirs = self.recipe_for(one), self.recipe_for(other)
        found = [
            f"{name} ({one} {getattr(ours, name)}, {other} {getattr(theirs, name)})"
            for name in Recipe.model_fields
            if getattr(ours, name) != getattr(theirs, name)
        ]
        if (
            ours.optimizer == theirs.optimizer
            and "adam" in ours.optimizer
            and ours.epsilon == theirs.epsilon == "framework"
        ):
            found.append(f"Adam's epsilon ({one} {ADAM_EPSILON[one]}, {other} {ADAM_EPSILON[other]})")
        if self.network.bias == "framework":
            found.append(f"biases ({one} {FRAMEWORK_BIAS[one]}, {other} {FRAMEWORK_BIAS[other]})")
        return found


def source(dataset: str | CsvFile) -> str:
    """Return the name of a bundled dataset, or the path of a file."""
    return dataset if isinstance(dataset, str) else dataset.path


@cache
def _settable() -> list[str]:
    """Return the settings that may be factors: single values of network, recipe and split, dataset and weights."""
    groups: dict[str, type[BaseModel]] = {"network": Network, "recipe": Recipe, "split": Split}
    fields = [f"{group}.{field}" for group, model in groups.items() for field in model.model_fields]
    return [*(name for name in fields if name != "network.hidden"), "dataset", "weights"]


def _rule(error: ValidationError) -> str:
    """Return the rule that a value breaks first."""
    return error.errors()[0]["msg"].removeprefix("Value error, ")


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
