"""The parts of a study: how rows are split, the network, the recipe, and claims about the outcome.

A study is what a user asks for; `study.py` puts these parts together. The sentences below the fields are shown as help
in Prefect's form.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    field_validator,
    model_validator,
)

from tasks.core.design.activations import ActivationName
from tasks.core.design.columns import CheckedName, Health
from tasks.core.design.float32 import NonNegative, Positive
from tasks.core.design.initializers import Backend, label
from tasks.core.design.own import ArrayFile, Loaded, OwnNetwork
from tasks.core.design.parts import (
    FIRST_SEED,
    Depth,
    Number,
    OneSeed,
    Scalar,
    Settings,
    Units,
    unlike,
)


class Split(Settings):
    """How rows are divided into train and test."""

    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of rows held out for the test."""
    stratified: bool = True
    """Keep each class's share equal in train and test."""
    seed: OneSeed = "cell"
    """`cell`: each of the study's seeds splits the rows anew. `redrawn`: the same, but differently than under `cell`:
    comparing the two shows how much the split alone changes results. A number: this seed splits the rows for every
    cell."""
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the train rows that are held out of training for validation. `tune` needs some; 0 holds out none."""
    scaler: Literal["train", "all"] = "train"
    """The rows whose mean and standard deviation scale the features. With `all`, the test rows leak into training."""


class Network(Settings):
    """The multilayer perceptron that every cell trains."""

    hidden: Annotated[tuple[Units, ...], Field(max_length=100)] = (64, 32)
    """Units of each hidden layer, first to last."""
    width: Units | None = None
    """Units of every hidden layer. Give width and depth together, instead of hidden."""
    depth: Depth | None = None
    """Number of hidden layers. Give depth and width together, instead of hidden."""
    activation: ActivationName = "relu"
    """Activation of the hidden layers; the output layer has none. leaky_relu has slope 0.01; gelu is the exact one."""
    normalization: Literal["none", "batch", "layer"] = "none"
    """Normalize hidden layers' pre-activations over the rows of a step (batch) or over the layer's units (layer)."""
    residual: bool = False
    """Add each hidden layer's input to its output, where both have the same number of units."""
    output_initializer: Literal["same", "glorot_normal"] = "same"
    """Initializer of the output layer: the same as the hidden layers have, or always glorot_normal."""
    bias: Literal["zeros", "framework"] = "zeros"
    """Biases before training: all zeros, also with the initializer pytorch_default; or each framework's default."""
    weights_seed: OneSeed = "cell"
    """`cell`: each of the study's seeds draws weights anew. `redrawn`: the same, but others than under `cell`. A
    number: this seed draws the weights of every cell."""

    @model_validator(mode="after")
    def _width_goes_with_depth(self) -> Self:
        if (self.width is None) != (self.depth is None):
            raise ValueError(f"width and depth go together; got width {self.width} and depth {self.depth}")
        if self.width and self.hidden != type(self).model_fields["hidden"].default:
            raise ValueError("units are given by hidden, or by width and depth, not by both")
        return self

    @property
    def units(self) -> tuple[int, ...]:
        """Units of each hidden layer, first to last, whether the study gives `hidden` or width and depth.

        >>> Network(width=8, depth=3).units
        (8, 8, 8)
        """
        return (self.width,) * self.depth if self.width and self.depth else self.hidden

    @property
    def spelled_out(self) -> "Network":
        """The same network with its units in `hidden`."""
        return self.model_copy(update={"hidden": self.units, "width": None, "depth": None})


Optimizer = Literal["adam", "adamw", "sgd", "momentum"]
BatchSize = Annotated[int, Field(ge=1)] | Literal["full"]
Epochs = Annotated[int, Field(ge=1, le=10_000)]
Epsilon = Positive | Literal["framework"]
Momentum = Annotated[Positive, Field(lt=1)]


class Recipe(Settings):
    """How every cell is trained."""

    optimizer: Optimizer = "adam"
    """Update rule. adam and adamw have the betas 0.9 and 0.999 in both backends."""
    learning_rate: Positive = 0.01
    """Step size of the optimizer."""
    batch_size: BatchSize = 32
    """Train rows of one step; or `full`, all train rows in one step."""
    epochs: Epochs = 20
    """Passes over the train rows."""
    shuffle: bool = True
    """Draw a new order of the rows for every epoch."""
    order_seed: OneSeed = "cell"
    """`cell`: each of the study's seeds orders the rows anew. `redrawn`: the same, but in another order than under
    `cell`. A number: this seed orders the rows for every cell."""
    epsilon: Epsilon = 1e-8
    """Adam's ε: a number, which both backends add after bias correction; or `framework`, each framework's own way."""
    momentum: Momentum = 0.9
    """Share of the last step that the optimizer `momentum` keeps."""
    weight_decay: NonNegative = 0.0
    """Weight decay λ of the kernels; nothing else decays. adamw decays the kernels directly. Under other optimizers the
    loss has the L2 penalty λ/2 · Σw²."""
    clip_norm: Positive | None = None
    """Largest norm of a cell's gradient, over all weights together. A longer gradient is shortened to this norm."""
    clip_value: Positive | None = None
    """Largest absolute value of any component of the gradient. A larger component is cut to this value."""

    @model_validator(mode="after")
    def _one_kind_of_clipping(self) -> Self:
        if self.clip_norm and self.clip_value:
            raise ValueError("clip by norm or by value, not both; got clip_norm and clip_value")
        return self


class RecipeChanges(Settings):
    """Changes to the recipe for one backend. A field left empty keeps the recipe's value."""

    optimizer: Optimizer | None = None
    learning_rate: Positive | None = None
    batch_size: BatchSize | None = None
    epochs: Epochs | None = None
    shuffle: bool | None = None
    epsilon: Epsilon | None = None
    momentum: Momentum | None = None
    weight_decay: NonNegative | None = None
    clip_norm: Positive | None = None
    clip_value: Positive | None = None


TUNABLE = (
    *("learning_rate", "batch_size", "epochs", "epsilon", "momentum", "weight_decay"),
    *("clip_norm", "clip_value"),
)
"""The settings of a recipe that are numbers."""


class Tune(Settings):
    """Each initializer first picks the value of one recipe setting that is best for itself, in each backend and level.

    The setting is given as in factors, with two numbers or more: `recipe.learning_rate: [0.001, 0.01, 0.1]`. Cells of
    seeds that the study does not have are trained at every value, and validation rows tell which value is best.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, tuple[Number, ...]]

    by: Literal["validation_loss", "validation_accuracy"] = "validation_loss"
    """What picks: the value with the lowest mean validation loss, or with the highest mean validation accuracy."""
    seeds: Annotated[int, Field(ge=1, le=1000)] = 10
    """How many seeds are trained at every value; 3 pick almost by chance. They are counted from 1,000,000, where the
    study has none."""

    @model_validator(mode="after")
    def _one_setting_with_values(self) -> Self:
        able = [f"recipe.{name}" for name in TUNABLE]
        if len(self.__pydantic_extra__) != 1 or self.setting not in able:
            given = ", ".join(self.__pydantic_extra__) or "none"
            raise ValueError(f"one setting of the recipe is needed; choose one of {', '.join(able)}; got {given}")
        if len(self.values) < 2 or len({*self.values}) < len(self.values):
            raise ValueError(f"{self.setting} needs two distinct values or more; got {[*self.values]}")
        return self

    @property
    def setting(self) -> str:
        """The name of the setting that is picked."""
        return next(iter(self.__pydantic_extra__))

    @property
    def title(self) -> str:
        """The last word of the setting's name, as sentences have it."""
        return short(self.setting).replace("_", " ")

    @property
    def values(self) -> tuple[Number, ...]:
        """The values to pick from."""
        return self.__pydantic_extra__[self.setting]

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds on which initializers pick.

        >>> Tune(**{"recipe.learning_rate": (0.01, 0.1)}, seeds=2).seed_list
        (1000000, 1000001)
        """
        return tuple(range(FIRST_SEED, FIRST_SEED + self.seeds))


Column = Annotated[str, Field(coerce_numbers_to_str=True), StringConstraints(strip_whitespace=True, min_length=1)]


class CsvFile(Settings):
    """A comma-separated file, or a Parquet file: numeric features, and a column of classes."""

    path: Annotated[str, Field(min_length=1)]
    """Path of the file. The file must lie in a folder that the variable INITBENCH_DATA lists, or below it; without the
    variable, in the current folder or below."""
    target: Column
    """The column that holds the classes. All other columns are features, but for those in `exclude`."""
    exclude: tuple[Column, ...] = ()
    """Columns that are left out, such as a row's number or its name."""
    header: bool | None = None
    """Whether the first line names the columns. Without a header the columns are called 1, 2, 3 and so on. If neither
    this field nor `names` is given, the first line must be a header, and a first line with numbers is refused."""
    names: Annotated[tuple[Column, ...], AfterValidator(unlike)] = ()
    """Names of all columns, for a file without a header."""

    @property
    def parquet(self) -> bool:
        """Whether it is a Parquet file, whose columns have names."""
        return self.path.endswith(".parquet")

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if self.parquet and (self.names or self.header is not None):
            raise ValueError("header and names are for CSV files; a Parquet file names its columns")
        if self.names and self.header:
            raise ValueError("names are for a file without a header; got names and header: true")
        if self.target in self.exclude:
            raise ValueError(f"exclude must leave the target in; got {self.target!r} in both")
        return self


class Check(Settings):
    """A claim about a study's outcome. It is judged for each backend, by the cells of this backend alone."""

    claim: str
    """What is claimed, in words."""
    measure: CheckedName | Literal["diverged"] | Health
    """What is compared with the bounds: the median of a measure; or the share of cells with a health, or `diverged`."""
    where: dict[str, Scalar] = {}
    """The cells that the claim is about, by values of `initializer` and of factors; all cells if empty."""
    against: dict[str, Scalar] | None = None
    """Other cells, given as in `where`. The median of the claim's cells is divided by the median of these."""
    at_least: float | None = None
    """The claim holds only if the number is at least this."""
    at_most: float | None = None
    """The claim holds only if the number is at most this."""

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


Bundled = Literal["iris", "wine", "breast_cancer", "digits", "diabetes"]
REAL = ("diabetes",)  # bundled datasets whose targets are real numbers
Data = Bundled | CsvFile | ArrayFile | Loaded


def _data(given: object) -> str | None:
    """Return the tag of the kind of data that is given: a known name, or a mapping with words of its own."""
    if isinstance(given, Loaded) or (isinstance(given, Mapping) and "load" in given):
        return "loaded"
    if isinstance(given, CsvFile | ArrayFile | Mapping):
        path = given.get("path") if isinstance(given, Mapping) else given.path
        return "arrays" if str(path).endswith(".npz") else "csv"
    return "bundled" if given in get_args(Bundled) else None


OR_MAPPING = " or a mapping of settings"  # of a study's dataset, but not of a level, which is a single value
AnyData = Annotated[
    Annotated[Bundled, Tag("bundled")]
    | Annotated[CsvFile, Tag("csv")]
    | Annotated[ArrayFile, Tag("arrays")]
    | Annotated[Loaded, Tag("loaded")],
    Discriminator(
        _data,
        custom_error_type="literal_error",
        custom_error_context={"expected": f"{', '.join(map(repr, get_args(Bundled)))}{OR_MAPPING}"},
    ),
]


def _network(given: object) -> str:
    """Return the tag of the kind of network that is given: one of one's own says what builds it."""
    own = isinstance(given, OwnNetwork) or (isinstance(given, Mapping) and "build" in given)
    return "own" if own else "perceptron"


AnyNetwork = Annotated[
    Annotated[Network, Tag("perceptron")] | Annotated[OwnNetwork, Tag("own")], Discriminator(_network)
]
WeightsSource = Literal["native", "shared"]
Record = Literal["cell", "full", "group"]


class CellSettings(Settings):
    """All settings of a study that decide a cell's outcome, except the cell's initializer and seed.

    The recipe includes the changes for the backend, and `hidden` lists the network's units even if the study gives
    width and depth. So two studies that mean the same have equal CellSettings. One program can train cells whose
    settings differ in nothing but the learning rate.
    """

    backend: Backend
    network: AnyNetwork
    recipe: Recipe
    dataset: AnyData
    split: Split
    weights: WeightsSource

    @property
    def shared(self) -> "CellSettings":
        """The settings that cells of one program share: these, with the default in place of the learning rate."""
        rate = Recipe.model_fields["learning_rate"].default
        return self.model_copy(update={"recipe": self.recipe.model_copy(update={"learning_rate": rate})})

    @property
    def perceptron(self) -> Network:
        """The network, which must be a perceptron.

        Raises:
            TypeError: if it is a network of one's own.
        """
        if not isinstance(self.network, Network):
            raise TypeError("this is for perceptrons")
        return self.network

    @property
    def own(self) -> OwnNetwork | None:
        """The network if it is one of one's own, else None."""
        return self.network if isinstance(self.network, OwnNetwork) else None

    @property
    def identity(self) -> dict[str, object]:
        """The settings as a key holds them. A share of no validation rows is left out, so that it changes no key."""
        unused = None if self.split.validation_fraction else {"split": {"validation_fraction"}}
        return self.model_dump(exclude=unused)


def short(factor: str) -> str:
    """Return the last word of a factor's dotted name, as tables and figures show it.

    >>> short("network.depth"), short("remedy")
    ('depth', 'remedy')
    """
    return factor.rpartition(".")[2]


def source(dataset: Data | str) -> str:
    """Return the name of a bundled dataset, the path of a file, or the function that loads.

    >>> source("iris"), source(CsvFile(path="my.csv", target="kind"))
    ('iris', 'my.csv')
    """
    if isinstance(dataset, str):
        return dataset
    return dataset.load if isinstance(dataset, Loaded) else dataset.path


def regression(dataset: object) -> bool:
    """Tell whether a dataset's targets are real numbers, as far as the study says so.

    >>> regression("diabetes"), regression("iris"), regression(Loaded(load="mine:load", task="regression"))
    (True, False, True)
    """
    if isinstance(dataset, ArrayFile | Loaded):
        return dataset.task == "regression"
    return dataset in REAL
