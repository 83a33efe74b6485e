"""The parts of a study: how rows are split, the network, the recipe, and claims about the outcome."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    field_validator,
    model_validator,
)

from tasks.core.design.activations import ActivationName
from tasks.core.design.columns import CheckedName, Health
from tasks.core.design.initializers import Backend, label, names

T = TypeVar("T")


def distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    """Return the values of an axis.

    Raises:
        ValueError: if there are none, or one is given more than once.
    """
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


class Check(Settings):
    """A claim about a study's outcome, to be held against its cells, each backend's for themselves."""

    claim: str
    """What is claimed, in words."""
    measure: CheckedName | Literal["diverged"] | Health
    """A measure, whose median over the cells is taken; or a health or `diverged`, whose share of the cells is taken."""
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


Bundled = Literal["iris", "wine", "breast_cancer", "digits"]
WeightsSource = Literal["native", "shared"]


class CellSettings(Settings):
    """All that a study decides of a cell's outcome but its initializer and its seed.

    The recipe is that of the backend, and the network's units are spelled out in `hidden`, so that equal settings are
    equal however a study gives them. Cells of equal settings can be trained in one program.
    """

    backend: Backend
    network: Network
    recipe: Recipe
    dataset: Bundled | CsvFile
    split: Split
    weights: WeightsSource


def short(factor: str) -> str:
    """Return a factor's name as people read it.

    >>> short("network.depth"), short("remedy")
    ('depth', 'remedy')
    """
    return factor.rpartition(".")[2]


def source(dataset: str | CsvFile) -> str:
    """Return the name of a bundled dataset, or the path of a file."""
    return dataset if isinstance(dataset, str) else dataset.path
