"""What a user asks for: one frozen model that the YAML files, the command line and the Prefect form share."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from tasks.core.initializers import BACKENDS, INITIALIZERS, Backend, known

MAX_CELLS = 10_000  # the table, the MLflow page and Prefect's server were all tried up to here
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
Units = Annotated[int, Field(ge=1, le=4096)]
InitializerName = Annotated[str, AfterValidator(known), WithJsonSchema({"type": "string", "enum": list(INITIALIZERS)})]


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class Split(Settings):
    """How rows are divided into train and test."""

    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of rows held out for the test."""
    stratified: bool = True
    """Keep each class's share equal in train and test."""
    seed: Seed | Literal["cell"] = "cell"
    """One split for every cell, by its seed; or `cell`, a new split for each of the study's seeds."""
    scaler: Literal["train", "all"] = "train"
    """Rows whose mean and standard deviation scale the features; `all` lets the test rows leak in."""


class Network(Settings):
    """The multilayer perceptron that every cell trains."""

    hidden: Annotated[tuple[Units, ...], Field(max_length=100)] = (64, 32)
    """Units of each hidden layer, first to last."""
    activation: Literal["relu", "tanh", "sigmoid", "linear"] = "relu"
    """Activation of the hidden layers; the output layer gives logits."""
    output_initializer: Literal["same", "glorot_normal"] = "same"
    """Initializer of the output layer: the hidden layers' own, or always glorot_normal."""
    bias: Literal["zeros", "framework"] = "zeros"
    """Biases at the start: zeros, for pytorch_default too; or each framework's default."""


Optimizer = Literal["adam", "sgd"]
LearningRate = Annotated[float, Field(gt=0)]
BatchSize = Annotated[int, Field(ge=1)] | Literal["full"]
Epochs = Annotated[int, Field(ge=1, le=10_000)]
Epsilon = Annotated[float, Field(gt=0)] | Literal["framework"]


class Recipe(Settings):
    """How every cell is trained."""

    optimizer: Optimizer = "adam"
    """Update rule; Adam's betas are 0.9 and 0.999 in both backends."""
    learning_rate: LearningRate = 0.01
    """Step size."""
    batch_size: BatchSize = 32
    """Rows of one step, or `full`."""
    epochs: Epochs = 20
    """Passes over the train rows."""
    shuffle: bool = True
    """Draw a new order of the rows for every epoch."""
    epsilon: Epsilon = 1e-8
    """Adam's ε, added after bias correction in both backends; or `framework`, each one's own number and place."""


class RecipeChanges(Settings):
    """What one backend does otherwise; an empty field keeps the recipe's value."""

    optimizer: Optimizer | None = None
    learning_rate: LearningRate | None = None
    batch_size: BatchSize | None = None
    epochs: Epochs | None = None
    shuffle: bool | None = None
    epsilon: Epsilon | None = None


@dataclass(frozen=True)
class Cell:
    """One point of the grid."""

    backend: Backend
    initializer: str
    seed: int

    def __str__(self) -> str:
        return f"{self.backend} · {self.initializer} · seed {self.seed}"


@dataclass(frozen=True)
class Batch:
    """Cells of one backend that one task trains and records."""

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
    Major.Minor; data: the dataset's checksum.
    """

    frameworks: Mapping[Backend, str]
    device: str
    release: str
    data: str


class Study(Settings):
    """A benchmark: data, network and recipe, and the axes of the grid: backends, initializers and seeds."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=60)] = "iris"
    """Names the MLflow experiment, initbench/<name>: lower-case letters, digits and dashes."""
    backends: Annotated[tuple[Backend, ...], AfterValidator(_axis)] = BACKENDS
    """Frameworks to train in."""
    initializers: Annotated[tuple[InitializerName, ...], AfterValidator(_axis)] = (
        "glorot_normal",
        "glorot_uniform",
        "he_normal",
        "he_uniform",
        "orthogonal",
        "pytorch_default",
        "random_normal",
        "zeros",
    )
    """Initializers of the hidden layers."""
    seeds: Annotated[int, Field(ge=1, le=MAX_CELLS)] | Annotated[tuple[Seed, ...], AfterValidator(_axis)] = 10
    """How many seeds, counted from 0; or the seeds themselves. A seed fixes split, batch order and weights."""
    dataset: Literal["iris"] = "iris"
    """Data to learn."""
    split: Split = Split()
    network: Network = Network()
    recipe: Recipe = Recipe()
    overrides: dict[Backend, RecipeChanges] = {}
    """Changes to the recipe for one backend; they make the backends incomparable, and the table says so."""
    weights: Literal["native", "shared"] = "native"
    """Each framework's own initializer, or one NumPy draw copied into both."""
    target: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Test accuracy that counts as reached."""
    reported: dict[Backend, Annotated[float, Field(ge=0, le=1)]] = {}
    """Test accuracies published elsewhere, to be placed in the distribution over seeds."""
    max_tasks: Annotated[int, Field(ge=1, le=1000)] = 200
    """Up to this many cells, each is a Prefect task of its own; beyond, cells of a backend share tasks."""

    @model_validator(mode="after")
    def _grid_is_bounded(self) -> Self:
        size = len(self.backends) * len(self.initializers) * len(self.seed_list)
        if size > MAX_CELLS:
            raise ValueError(f"the grid must have at most {MAX_CELLS:,} cells; this one has {size:,}")
        return self

    @model_validator(mode="after")
    def _shared_weights_have_shared_biases(self) -> Self:
        if self.weights == "shared" and self.network.bias == "framework":
            raise ValueError("weights: shared needs network.bias: zeros, for a framework's own biases are not shared")
        return self

    @property
    def seed_list(self) -> tuple[int, ...]:
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds

    def recipe_for(self, backend: Backend) -> Recipe:
        """Return the recipe with the backend's changes; where no Adam uses it, epsilon is the default."""
        changes = self.overrides.get(backend, RecipeChanges()).model_dump(exclude_none=True)
        recipe = self.recipe.model_copy(update=changes)
        return recipe if recipe.optimizer == "adam" else recipe.model_copy(update={"epsilon": Recipe().epsilon})

    def cells(self) -> list[Cell]:
        """Return the grid: backend by backend, initializer by initializer, seed by seed."""
        return [Cell(*point) for point in product(self.backends, self.initializers, self.seed_list)]

    def batches(self, cells: Sequence[Cell]) -> list[Batch]:
        """Divide cells into at most about `max_tasks` batches of one backend each, as even as can be.

        >>> study = Study(seeds=3, initializers=("zeros",), max_tasks=2)
        >>> [str(batch) for batch in study.batches(study.cells())]
        ['pytorch · 3 cells', 'keras · 3 cells']
        """
        size = max(1, -(-len(cells) // self.max_tasks))
        by_backend = [[cell for cell in cells if cell.backend == backend] for backend in self.backends]
        return [Batch(tuple(row[at : at + size])) for row in by_backend for at in range(0, len(row), size)]

    def settings_key(self, backend: Backend, platform: Platform) -> str:
        """Hash all that decides a cell's outcome but its initializer and seed."""
        decisive = {
            "backend": backend,
            "framework": platform.frameworks[backend],
            "device": platform.device,
            "release": platform.release,
            "data": platform.data,
            "recipe": self.recipe_for(backend).model_dump(),
            **self.model_dump(include={"dataset", "split", "network", "weights"}),
        }
        return _digest(decisive)

    def cell_key(self, cell: Cell, platform: Platform) -> str:
        """Hash all that decides a cell's outcome; the order and extent of the axes do not enter."""
        return _digest([self.settings_key(cell.backend, platform), cell.initializer, cell.seed])

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
        if ours.optimizer == theirs.optimizer == "adam" and ours.epsilon == theirs.epsilon == "framework":
            found.append(f"Adam's epsilon ({one} {ADAM_EPSILON[one]}, {other} {ADAM_EPSILON[other]})")
        if self.network.bias == "framework":
            found.append(f"biases ({one} {FRAMEWORK_BIAS[one]}, {other} {FRAMEWORK_BIAS[other]})")
        return found


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
