"""A network of one's own, and data of one's own: how a study names code and arrays that are not initbench's.

Code is named by a reference, `module:function`, or by the name of an entry point of an installed package. What may be
imported, and from where, is not decided here.
"""

import keyword
import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from tasks.core.design import expressions
from tasks.core.design.initializers import Backend, pieces, value
from tasks.core.design.parts import OneSeed, Scalar, Settings, unlike
from tasks.core.design.rules import FANS, Rules, rule

REFERENCE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*(:[^\W\d]\w*)?|[\w.\-]+")
RULES = "network.rules"  # a factor of this name has sets of rules as its levels
OPTIONS = "network.options."  # start of the names of settings that are options
Task = Literal["classification", "regression"]
Scaling = Literal["none", "feature", "channels_first", "channels_last"]


def _referenced(text: str) -> str:
    if not REFERENCE.fullmatch(text):
        raise ValueError(f"code is named module:function, or by an entry point; got {text!r}")
    return text


Reference = Annotated[str, AfterValidator(_referenced)]


def _named(name: str) -> str:
    if not name.isidentifier() or keyword.iskeyword(name) or name in FANS:
        raise ValueError(f"an option is an argument of the builder, so its name is one of Python's; got {name!r}")
    return name


OptionName = Annotated[str, AfterValidator(_named)]
Option = Scalar | None | tuple[Scalar, ...]
RuleLabel = Annotated[str, BeforeValidator(rule)]


class OwnNetwork(Settings):
    """A network of one's own: the functions that build it, with their options."""

    build: Annotated[dict[Backend, Reference], Field(min_length=1)]
    """By backend, what builds the model: `module:function`, which is called as function(shape, outputs, **options).
    shape: that of one row of x; outputs: how many classes or real numbers the model gives."""
    options: dict[OptionName, Option] = {}
    """Arguments of the builder by name. Each may be a factor: network.options.width."""
    rules: dict[str, RuleLabel] = {}
    """Laws of single layers or parameters, by patterns of their names: {"*.out": {name: random_normal, std: 0.02}}. The
    first pattern that matches counts, and beats the cell's initializer. Numbers may be expressions in fan_in, fan_out
    and the options: "0.02/sqrt(2*depth)"."""
    weights_seed: OneSeed = "cell"
    """`cell`: each of the study's seeds builds and draws anew. `redrawn`: the same, but with other numbers than under
    `cell`. A number: this seed builds and draws for every cell."""
    code: dict[Backend, str] = {}
    """By backend, the checksum of the builder's code. A plan fills it in. If a study gives a checksum, other code is
    refused."""

    @model_validator(mode="after")
    def _rules_name_options(self) -> Self:
        for label in self.rules.values():
            for text in pieces(label)[1].values():
                if isinstance(value(text), str) and not text.isidentifier():
                    expressions.check(text, [*FANS, *self.numbers])
        return self

    @property
    def numbers(self) -> dict[str, float]:
        """The options that are numbers, which expressions may have."""
        return {name: float(each) for name, each in self.options.items() if isinstance(each, int | float)}

    @property
    def laws(self) -> Rules:
        """The rules, with the values for their expressions."""
        return Rules(self.rules, self.numbers)

    @property
    def spelled_out(self) -> Self:
        """The network itself: a network of one's own has only one spelling."""
        return self

    def of(self, backend: Backend) -> Self:
        """Return the network of one backend, so that a builder for the other one changes nothing."""
        mine = {name: {backend: each[backend]} if backend in each else {} for name, each in self._by_backend.items()}
        return self.model_copy(update=mine)

    @property
    def _by_backend(self) -> dict[str, Mapping[Backend, str]]:
        return {"build": self.build, "code": self.code}

    def __hash__(self) -> int:
        return hash(self.model_dump_json())


class Watched(Settings):
    """A model that each night is audited: what builds it, and what that is given."""

    build: Reference
    """The function that builds the model, `module:function` with the module in a folder that INITBENCH_CODE lists where
    the nightly runs; or an entry point."""
    options: dict[OptionName, Option] = {}
    """Arguments of the function by name."""
    shape: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Shape of a row for the first pass: 3, 32, 32. Left empty: that of the data, or what the model says."""
    load: Reference | None = None
    """A function that returns x and y for the first pass, named as build is."""

    def __str__(self) -> str:
        return called(self.build, self.options)


def called(build: str, options: Mapping[str, Option]) -> str:
    """Return how audits call a model: by what builds it, with its options.

    >>> called("mymodel:build", {"width": 64})
    'mymodel:build(width=64)'
    """
    told = ", ".join(f"{name}={value}" for name, value in options.items())
    return f"{build}({told})" if told else build


def watched_once(watched: tuple[Watched, ...]) -> tuple[Watched, ...]:
    """Return models unchanged, after a check that they differ in what audits call them.

    Raises:
        ValueError: if two are called alike.
    """
    unlike(tuple(map(str, watched)))
    return watched


class ArrayFile(Settings):
    """Arrays in a NumPy file: x and y, and perhaps x_test and y_test, which are the test rows then."""

    path: Annotated[str, Field(pattern=r"\.npz$")]
    """Path of the .npz file, in a folder that INITBENCH_DATA lists or, without it, in the current folder or below."""
    scaling: Scaling | None = None
    """What is scaled to mean 0 and standard deviation 1 by the train rows: each feature; each channel, where channels
    are the first or the last axis of a row; or nothing. Left empty: features of tables, and nothing else."""
    task: Task | None = None
    """What y holds: classes, counted from 0, or real numbers to predict. Left empty, whole numbers are classes."""


class Loaded(Settings):
    """Arrays that a function returns: (x, y), or (x, y, x_test, y_test)."""

    load: Reference
    """The function, `module:function`, which is called without arguments and returns the same arrays each time."""
    scaling: Scaling | None = None
    """What is scaled to mean 0 and standard deviation 1 by the train rows: each feature; each channel, where channels
    are the first or the last axis of a row; or nothing. Left empty: features of tables, and nothing else."""
    task: Task | None = None
    """What y holds: classes, counted from 0, or real numbers to predict. Left empty, whole numbers are classes."""
