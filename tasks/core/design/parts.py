"""What the parts of a study share: the base of all settings, seeds, single values, and checks of axes."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    StrictFloat,
    StrictInt,
    ValidationInfo,
    field_validator,
)

from tasks.core.design.initializers import label, names

T = TypeVar("T")


def distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    """Return the values of an axis of the grid unchanged, after a check that they differ from each other.

    Raises:
        ValueError: if there is no value, or a value is given more than once.

    >>> distinct(("pytorch", "keras"))
    ('pytorch', 'keras')
    """
    if not values:
        raise ValueError("at least one value is needed")
    return unlike(values)


def unlike(values: tuple[T, ...]) -> tuple[T, ...]:
    """Return values unchanged, after a check that none is given more than once.

    Raises:
        ValueError: if a value is given more than once.
    """
    repeated = sorted({str(value) for value in values if values.count(value) > 1})
    if repeated:
        raise ValueError(f"values must be distinct; given more than once: {', '.join(repeated)}")
    return values


Seed = Annotated[int, Field(ge=0, lt=2**32)]
OneSeed = Seed | Literal["cell", "redrawn"]
Units = Annotated[int, Field(ge=1, le=4096)]
Depth = Annotated[int, Field(ge=1, le=100)]
Scalar = bool | int | float | str
Number = StrictInt | StrictFloat
Level = tuple[str, Scalar]
"""A factor's name and its level. The level is a value, or the name of a set of settings; an empty value is `none`."""
NONE = "none"
FIRST_SEED = 1_000_000  # of those on which initializers pick: a study that counts its seeds has at most 10,000
NAME = re.compile(r"\w[\w .\-]*")  # MLflow accepts such a name for a param


class _InitializerSchema:
    """The JSON schema of an initializer. Pydantic asks for it late, because installed packages add initializers."""

    def __get_pydantic_json_schema__(self, core_schema: object, handler: GetJsonSchemaHandler) -> dict[str, object]:
        with_parameters = {"type": "string", "pattern": r"^\w+\(.*\)$"}
        as_mapping = {"type": "object", "required": ["name"], "properties": {"name": {"enum": names()}}}
        return {"anyOf": [{"type": "string", "enum": names()}, with_parameters, as_mapping]}


def _labelled(given: object) -> object:
    return label(given) if isinstance(given, str | Mapping) else given


InitializerLabel = Annotated[str, BeforeValidator(_labelled), _InitializerSchema()]


class Settings(BaseModel):
    """A part of a study. A truth value is no number here, although Python says that true is 1."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, given: object, info: ValidationInfo) -> object:
        kind = cls.model_fields[str(info.field_name)].annotation
        if isinstance(given, bool) and bool not in (kind, *get_args(kind)):
            raise ValueError("Input should be another value than true or false")
        return given
