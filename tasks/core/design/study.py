"""What a user asks for: one frozen model that the YAML files, the command line and the Prefect form share.

A study names data, a network, a recipe, and the axes of a grid: backends, initializers, seeds and factors. A factor is
one more axis, and its values are levels. One point of the grid is a cell (`grid.py`). Prefect's form shows the
sentences below the fields as help.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import product
from math import prod
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from tasks.core.design.columns import MeasureName, reserved
from tasks.core.design.faults import faults, rule
from tasks.core.design.initializers import AS_BUILT, BACKENDS, Backend, Orthogonal, named
from tasks.core.design.nearest import choice
from tasks.core.design.own import OPTIONS, RULES, OwnNetwork
from tasks.core.design.parts import (
    NAME,
    NONE,
    InitializerLabel,
    Level,
    Scalar,
    Seed,
    Settings,
    distinct,
)
from tasks.core.design.rules import rule as labelled
from tasks.core.design.settings import (
    OR_MAPPING,
    AnyData,
    AnyNetwork,
    CellSettings,
    Check,
    Data,
    Network,
    Optimizer,
    Recipe,
    RecipeChanges,
    Record,
    Split,
    Tune,
    WeightsSource,
    regression,
    short,
)

NO_SCALARS = ("network.hidden", "network.build", "network.options", RULES, "network.code")
MAX_CELLS = 10_000  # the table, the MLflow page and Prefect's server were all tried with this number
ADAM_EPSILON: dict[Backend, str] = {"pytorch": "1e-08 after bias correction", "keras": "1e-07 before it"}
UNUSED: dict[Optimizer, tuple[str, ...]] = {
    "adam": ("momentum",),
    "adamw": ("momentum",),
    "sgd": ("momentum", "epsilon"),
    "momentum": ("epsilon",),
}
"""The settings of a recipe that have no effect under each optimizer."""
FRAMEWORK_BIAS: dict[Backend, str] = {"pytorch": "U(±1/√fan_in)", "keras": "zeros"}


STUDY_NAME = "[a-z0-9][a-z0-9-]*"


def _plain(name: str) -> str:
    if not re.fullmatch(STUDY_NAME, name):
        raise ValueError(f"a name is lower-case letters, digits and dashes, and starts with no dash; got {name!r}")
    return name


TARGET, R2_TARGET = 0.9, 0.4  # to reach, by test accuracy and by R²


def _single(given: object) -> object:
    """Return a value of a set of settings; a rule that is a mapping becomes its label."""
    return labelled(given) if isinstance(given, Mapping) else given


SetValue = Annotated[Scalar | None, BeforeValidator(_single)]


class Study(Settings):
    """A benchmark: data, network and recipe, and the axes of the grid: backends, initializers and seeds."""

    name: Annotated[
        str, AfterValidator(_plain), Field(max_length=60, json_schema_extra={"pattern": f"^{STUDY_NAME}$"})
    ] = "iris"
    """Name of the study and of its MLflow experiment, initbench/<name>: lower-case letters, digits and dashes."""
    backends: Annotated[tuple[Backend, ...], AfterValidator(distinct)] = BACKENDS
    """Frameworks to train in."""
    initializers: Annotated[tuple[InitializerLabel, ...], AfterValidator(distinct)] = (
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
    factors: dict[str, tuple[Scalar | None, ...] | dict[str, dict[str, SetValue]]] = {}
    """More axes of the grid. A factor is a setting of network, recipe or split, or `dataset` or `weights`, with a list
    of values; or a name of your own, with named sets of such settings; or `network.rules`, with named sets of rules."""
    seeds: Annotated[int, Field(ge=1, le=MAX_CELLS)] | Annotated[tuple[Seed, ...], AfterValidator(distinct)] = 10
    """How many seeds, counted from 0; or a list of seeds. A seed fixes a cell's split, order of rows and weights."""
    dataset: AnyData = "iris"
    """Data to learn: a dataset that scikit-learn bundles; a table in a CSV or Parquet file; arrays in a .npz file; or a
    function of your own that returns arrays."""
    split: Split = Split()
    network: AnyNetwork = Network()
    """The multilayer perceptron that cells train, or what builds a network of your own."""
    recipe: Recipe = Recipe()
    overrides: dict[Backend, RecipeChanges] = {}
    """Changes to the recipe for one backend. They make the backends incomparable, and the table says so."""
    tune: Tune | None = None
    """Before the comparison, every initializer picks the value of a setting that is best for itself, by validation rows
    and on seeds of its own. Left empty, all initializers are compared at one recipe."""
    weights: WeightsSource = "native"
    """`native`: each framework draws with its own initializer. `shared`: NumPy draws once for both backends."""
    target: Annotated[float, Field(gt=0, le=1)] = TARGET
    """The test accuracy to reach; for real targets, R² (0.4 if nothing is given). The measure epochs_to_target counts
    the epochs until it is reached."""
    margins: dict[MeasureName, Annotated[float, Field(gt=0)]] = {}
    """For each measure, the largest difference that does not matter, in the measure's unit. For losses a share: 0.1 is
    10 %. Without a value for test_accuracy, its margin is a third of the errors."""
    reported: dict[Backend, Annotated[float, Field(ge=0, le=1)]] = {}
    """By backend, a test accuracy published elsewhere. The report says where it lies in the distribution over seeds."""
    checks: tuple[Check, ...] = ()
    """Claims about the outcome. The report says of each whether it holds."""
    controls: str | None = "controls"
    """A study that ships and is trained along with this one. If its checks do not hold, the benchmark is invalid."""
    record: Record = "cell"
    """What MLflow's page shows. `cell`: a run for each cell, with the accuracies and losses of each epoch, and what
    describes the cell as a whole, as metrics. `full`: each layer's signals, too. `group`: for huge grids, one run for
    all cells of an initializer, with the seed as step. Files hold everything in each case."""
    max_tasks: Annotated[int, Field(ge=1, le=1000)] = 200
    """Up to this many cells, every cell is a Prefect task of its own. With more cells, cells of a backend share tasks.
    Workers ignore this setting and take up to 64 cells at once."""
    audit: bool = False
    """Before a network of your own trains, tell by what law each parameter is drawn as its author builds it, and what
    is wrong with it. The report has the findings, which stop nothing."""
    runner: Literal["local", "workers"] = "local"
    """Where cells train: on this machine; or on workers elsewhere, which serve the work pools pytorch and keras."""

    @field_validator("factors")
    @classmethod
    def _levels_are_distinct(cls, factors: dict[str, Any]) -> dict[str, Any]:
        for factor, levels in factors.items():
            if reserved(short(factor)):
                raise ValueError(f"a factor needs a name of its own; {short(factor)!r} is a column of every table")
            if isinstance(levels, dict) and factor in ("dataset", "weights"):
                raise ValueError(f"{factor} is a setting: give a list of its values; named sets need another name")
            if isinstance(levels, tuple) and factor == RULES:
                raise ValueError(f"{RULES} needs named sets of rules, like {{none: {{}}, small: {{head: zeros}}}}")
            for name in (factor, *(levels if isinstance(levels, dict) else ())):
                if not NAME.fullmatch(name):
                    raise ValueError(f"names of factors and levels are letters, digits, spaces and .-_; got {name!r}")
            try:
                distinct(tuple(levels))
            except ValueError as error:
                raise ValueError(f"{factor}: {error}") from None
        if len({short(factor) for factor in factors}) < len(factors):
            raise ValueError(f"factors must differ in their last word; got {', '.join(factors)}")
        touched = [
            {name for changes in levels.values() for name in changes}
            if isinstance(levels, dict) and factor != RULES
            else {factor}
            for factor, levels in factors.items()
        ]
        twice = sorted(name for name in set().union(*touched) if sum(name in each for each in touched) > 1)
        if twice:
            raise ValueError(f"only one factor may change a setting; more than one changes {', '.join(twice)}")
        return factors

    @model_validator(mode="before")
    @classmethod
    def _target_of_real_numbers(cls, given: object) -> object:
        if isinstance(given, dict) and "target" not in given:
            data = given.get("dataset")
            real = data.get("task") == "regression" if isinstance(data, Mapping) else regression(data)
            return {**given, "target": R2_TARGET} if real else given
        return given

    @model_validator(mode="after")
    def _lists_are_of_settings(self) -> Self:
        for factor, levels in self.factors.items():
            if isinstance(levels, tuple) and factor not in self.settable:
                raise ValueError(f"factors: no setting {factor!r} to go with a list; {choice(factor, self.settable)}")
        return self

    @model_validator(mode="after")
    def _own_networks_have_builders(self) -> Self:
        own = self.network if isinstance(self.network, OwnNetwork) else None
        if own is None and AS_BUILT.name in self.initializers:
            raise ValueError(f"initializers: {AS_BUILT.name} needs network.build, a model that has an author")
        if own is None:
            return self
        if missing := [backend for backend in self.backends if backend not in own.build]:
            raise ValueError(f"network.build must name a builder for {missing[0]}, or backends must leave it out")
        for name in self.initializers:
            law = named(name).law
            if isinstance(law, Orthogonal) and law.gain == "activation":
                raise ValueError("orthogonal's gain must be a number, because network.build has no setting activation")
        if self.weights == "shared" and len(self.backends) > 1 and AS_BUILT.name in self.initializers:
            raise ValueError(f"weights: shared cannot give both backends {AS_BUILT.name}, which each author built")
        return self

    @model_validator(mode="after")
    def _audits_have_a_model(self) -> Self:
        if self.audit and not isinstance(self.network, OwnNetwork):
            raise ValueError("audit needs network.build: a perceptron has no author, its initializers draw all of it")
        return self

    @model_validator(mode="after")
    def _one_kind_of_targets(self) -> Self:
        levels = self.factors.get("dataset", ())
        kinds = {regression(each): each for each in levels}
        if len(kinds) > 1:
            raise ValueError(f"factors: datasets must be of one task; {kinds[True]} is for regression")
        return self

    @model_validator(mode="after")
    def _grid_is_bounded(self) -> Self:
        if self.size > MAX_CELLS:
            raise ValueError(f"the grid must have at most {MAX_CELLS:,} cells; this one has {self.size:,}")
        return self

    @model_validator(mode="after")
    def _overrides_leave_a_recipe(self) -> Self:
        for backend, changes in self.overrides.items():
            try:
                Recipe.model_validate(self.recipe.model_dump() | changes.model_dump(exclude_none=True))
            except ValidationError as error:
                raise ValueError(f"overrides.{backend}: {rule(error.errors())}") from None
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
                    raise ValueError(f"check {check.claim!r}: no axis {axis!r}; {choice(axis, axes)}")
        return self

    @model_validator(mode="after")
    def _shared_weights_have_shared_biases(self) -> Self:
        if self.weights == "shared" and isinstance(self.network, Network) and self.network.bias == "framework":
            raise ValueError("weights: shared needs network.bias: zeros, because each framework has its own biases")
        return self

    @model_validator(mode="after")
    def _can_be_tuned(self) -> Self:
        if self.tune is None:
            return self
        setting, seeds = self.tune.setting, sorted({*self.tune.seed_list} & {*self.seed_list})
        if setting in {name for levels in self.levels() for level in levels for name in self._settings(*level)}:
            raise ValueError(f"{setting} is a factor, so tune must leave it alone")
        if short(setting) in self._overridden:
            raise ValueError(f"{setting} is tuned, so overrides must leave it alone")
        if idle := sorted(each for each in self._optimizers() if short(setting) in UNUSED[each]):
            raise ValueError(f"tune: {setting} has no effect under the optimizer {idle[0]}")
        if not all(self._validation_shares()):
            raise ValueError("tune picks by validation rows, so split.validation_fraction must be above 0; got 0")
        if seeds:
            raise ValueError(f"the seeds on which tune picks must not be seeds of the study; both have {seeds[0]}")
        try:
            size = self.size + self.tuning().size
        except ValidationError as error:
            raise ValueError(f"tune: {rule(error.errors()).removeprefix('factors: ')}") from None
        if size > MAX_CELLS:
            raise ValueError(f"a study and what it tunes must have at most {MAX_CELLS:,} cells; they have {size:,}")
        return self

    @property
    def _overridden(self) -> set[str]:
        return {name for changes in self.overrides.values() for name in changes.model_dump(exclude_none=True)}

    def _optimizers(self) -> set[Optimizer]:
        studies = map(self.at, self.levels())
        return {study.recipe_for(backend).optimizer for study in studies for backend in self.backends}

    @property
    def regression(self) -> bool:
        """Whether targets are real numbers, so that losses are squared errors and accuracies are R²."""
        return regression(self.datasets[0])

    @property
    def settable(self) -> list[str]:
        """The settings that may be factors: single values of network, recipe and split, dataset and weights."""
        groups: dict[str, type[BaseModel]] = {"network": type(self.network), "recipe": Recipe, "split": Split}
        fields = [f"{group}.{field}" for group, model in groups.items() for field in model.model_fields]
        options = [OPTIONS + name for name in self.network.options] if isinstance(self.network, OwnNetwork) else []
        return [*(name for name in fields if name not in NO_SCALARS), *options, "dataset", "weights"]

    @property
    def datasets(self) -> list[Data]:
        """The datasets of the study, over all levels, each once."""
        return list(dict.fromkeys(self.at(levels).dataset for levels in self.levels()))

    @property
    def validates(self) -> bool:
        """Whether cells have validation rows."""
        return any(self._validation_shares())

    def _validation_shares(self) -> list[float]:
        return [self.at(levels).split.validation_fraction for levels in self.levels()]

    @property
    def size(self) -> int:
        """How many cells the grid has."""
        axes = (self.backends, self.initializers, self.seed_list, *self.factors.values())
        return prod(map(len, axes))

    def levels(self) -> list[tuple[Level, ...]]:
        """Return every combination of the factors' levels. Without factors the only combination is the empty one.

        >>> Study(factors={"weights": ("native", "shared")}).levels()
        [(('weights', 'native'),), (('weights', 'shared'),)]
        """
        return list(product(*([(factor, level) for level in self.levels_of(factor)] for factor in self.factors)))

    def levels_of(self, factor: str) -> list[Scalar]:
        """Return the levels of a factor, an empty value as `none`."""
        return [NONE if level is None else level for level in self.factors[factor]]

    def _settings(self, factor: str, level: Scalar) -> Mapping[str, Scalar | None]:
        levels = self.factors[factor]
        if isinstance(levels, dict):
            return {RULES: levels[str(level)]} if factor == RULES else levels[str(level)]  # type: ignore[dict-item]
        return {factor: None if level == NONE and None in levels else level}

    def at(self, levels: Sequence[Level]) -> "Study":
        """Return the study with the settings of these levels, and without factors and the checks that name them.

        Raises:
            ValueError: if a level sets a setting that there is not, or to a value that is not allowed.

        >>> Study(factors={"recipe.epochs": (5, 50)}).at([("recipe.epochs", 50)]).recipe.epochs
        50
        """
        if not self.factors:
            return self
        given = self.model_dump(exclude={"factors", "checks", "tune"})
        settings = {name: value for factor, level in levels for name, value in self._settings(factor, level).items()}
        able = [*self.settable, *([RULES] if isinstance(self.network, OwnNetwork) else [])]
        for name, value in settings.items():
            if name not in able:
                raise ValueError(f"factors: no setting {name!r}; {choice(name, able)}")
            *groups, field = name.split(".")
            group = given
            for each in groups:
                group = group[each]
            group[field] = value
        try:
            return type(self).model_validate(given)
        except ValidationError as error:
            at = f"; at {settings}" if len(settings) > 1 else ""
            words = faults(error, given, type(self))[0].replace(OR_MAPPING, "")
            raise ValueError(f"factors: {words}{at}") from None

    def tuning(self) -> "Study":
        """Return the study in which initializers pick: the tuned setting is one more factor, the seeds are its own.

        Raises:
            ValueError: if the study tunes nothing.

        >>> tune = {"recipe.learning_rate": (0.01, 0.1)}
        >>> Study(tune=tune, split={"validation_fraction": 0.2}).tuning().summary
        'iris · 2 backends · 2 learning_rate · 8 initializers · 10 seeds'
        """
        if self.tune is None:
            raise ValueError("the study tunes nothing")
        given = self.model_dump(exclude={"tune", "checks", "reported"})
        factors = {**self.factors, self.tune.setting: self.tune.values}
        return type(self).model_validate(given | {"factors": factors, "seeds": self.tune.seed_list})

    @property
    def summary(self) -> str:
        """The study's name and the size of its grid in one line.

        >>> Study(backends=("keras",), factors={"network.depth": (2, 4)}, network=Network(width=8, depth=2)).summary
        'iris · keras · 2 depth · 8 initializers · 10 seeds'
        >>> Study(seeds=1).summary
        'iris · 2 backends · 8 initializers · seed 0'
        """
        axes = {
            "backends": self.backends,
            **{short(factor): self.levels_of(factor) for factor in self.factors},
            "initializers": self.initializers,
            "seeds": [f"seed {seed}" for seed in self.seed_list],
        }
        words = [str(values[0]) if len(values) == 1 else f"{len(values)} {name}" for name, values in axes.items()]
        return " · ".join([self.name, *words])

    @property
    def spelled_out(self) -> "Study":
        """The same study with its network's units listed in `hidden`."""
        return self.model_copy(update={"network": self.network.spelled_out})

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds, also if the study gives only their number."""
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds

    def recipe_for(self, backend: Backend) -> Recipe:
        """Return a backend's recipe: the study's recipe with the changes for this backend.

        Settings that the optimizer does not use are set to their defaults, so that they make no cell differ.

        >>> Study(overrides={"keras": {"learning_rate": 0.001}}).recipe_for("keras").learning_rate
        0.001
        """
        changes = self.overrides.get(backend, RecipeChanges()).model_dump(exclude_none=True)
        recipe = self.recipe.model_copy(update=changes)
        defaults = {name: Recipe.model_fields[name].default for name in UNUSED[recipe.optimizer]}
        return recipe.model_copy(update=defaults)

    def has_cells_for(self, check: Check) -> bool:
        """Tell whether the grid has the cells that a check is about."""
        axes: dict[str, Sequence[Scalar]] = {short(factor): self.levels_of(factor) for factor in self.factors}
        axes["initializer"] = self.initializers
        return all(value in axes[axis] for axis, value in (*check.where.items(), *(check.against or {}).items()))

    def settings(self, backend: Backend, levels: Sequence[Level]) -> CellSettings:
        """Return the settings that a backend's cells have at these levels."""
        study = self.at(levels)
        return CellSettings(
            backend=backend,
            network=study.network.of(backend) if isinstance(study.network, OwnNetwork) else study.network.spelled_out,
            recipe=study.recipe_for(backend),
            dataset=study.dataset,
            split=study.split,
            weights=study.weights,
        )

    def backend_differences(self) -> list[str]:
        """Name the settings in which the backends differ, so that they cannot be compared; empty if there are none.

        >>> Study(overrides={"keras": {"epochs": 5}}).backend_differences()
        ['epochs (pytorch 20, keras 5)']
        """
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
        if isinstance(self.network, Network) and self.network.bias == "framework":
            found.append(f"biases ({one} {FRAMEWORK_BIAS[one]}, {other} {FRAMEWORK_BIAS[other]})")
        return found
