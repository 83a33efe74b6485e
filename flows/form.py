"""The form that Prefect shows for a benchmark: a study that ships, and changes to it.

Prefect builds the form from the JSON schema of the flow's parameters. The schema of each field comes from Study, but
without the default: if a field is left empty, or 0, the chosen study keeps its own value.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import GetJsonSchemaHandler

from flows import studies
from flows.plan import Plan
from tasks.core.design.study import Study

COMMON = {"seeds": "seeds", "epochs": "recipe.epochs", "backends": "backends", "initializers": "initializers"}
"""The fields that the form shows below the study, and the setting of the study that each field changes."""
EMPTY: tuple[object, ...] = (0, (), [])  # values of a field that nobody filled in; the form refuses null


class _Names:
    """The schema of a drop-down with the names of the studies that ship."""

    def __get_pydantic_json_schema__(self, core_schema: object, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "enum": studies.names()}


class _Common:
    """The schema of one setting of Study; if the setting allows several types, of the simplest type alone.

    The schema is made when Prefect asks for it, because installed packages add initializers.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __get_pydantic_json_schema__(self, core_schema: object, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = _study()
        for step in self.name.split("."):
            schema = schema["properties"][step]
        if "items" in schema:
            return {**schema, "items": _plainest(schema["items"])}
        return {**_plainest(schema), "minimum": 0}


class _Advanced:
    """The schema of all settings of Study, as a choice: `as the study has it` shows none, `changes` shows all."""

    def __get_pydantic_json_schema__(self, core_schema: object, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        folded = {"title": "as the study has it", "type": "object", "properties": {}, "additionalProperties": False}
        schema = _study()
        schema["properties"].pop("name")
        return {"anyOf": [folded, {**schema, "title": "changes"}]}


def _study() -> dict[str, Any]:
    schema = Study.model_json_schema()
    plain: dict[str, Any] = _plain(schema, schema.pop("$defs"))
    return plain


def _plainest(schema: dict[str, Any]) -> dict[str, Any]:
    alternatives = schema.pop("anyOf", [{}])
    return {**alternatives[0], **schema}


def _plain(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """Return a schema without references and defaults; the description of a setting tells its default instead."""
    if isinstance(schema, list):
        return [_plain(each, definitions) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        schema = definitions[schema["$ref"].removeprefix("#/$defs/")] | schema
    if schema.get("type") == "boolean":  # a switch is on or off, a list can also be empty
        schema = {**schema, "type": None, "enum": [True, False]}
    plain = {
        name: _plain(value, definitions)
        for name, value in schema.items()
        if name not in ("$ref", "default") and value is not None
    }
    if "oneOf" in plain:  # Prefect's form knows a choice by the other name
        plain["anyOf"] = plain.pop("oneOf")
    default = schema.get("default", "")
    if default is None and "anyOf" in plain:  # null is the default: the field is left empty for it
        first, *others = (each for each in plain.pop("anyOf") if each != {"type": "null"})
        plain |= {"anyOf": [first, *others]} if others else first
    if default not in (None, "") and not isinstance(default, dict) and "description" in plain:
        words = ", ".join(map(str, default)) if isinstance(default, list) else str(default)
        plain["description"] += f" Usually {words or 'none'}."
    return plain


StudyName = Annotated[str, _Names()]
AskedStudy = Annotated[Study | str | Plan, _Names()]
Seeds = Annotated[Any, _Common("seeds")]
Epochs = Annotated[Any, _Common("recipe.epochs")]
Backends = Annotated[Any, _Common("backends")]
Initializers = Annotated[Any, _Common("initializers")]
Advanced = Annotated[dict[str, Any], _Advanced()]


def asked(parameters: Mapping[str, Any]) -> Study:
    """Return the study that the parameters of the flow `benchmark` ask for.

    Raises:
        StudyError: if there is no such study, or a change is not valid.
    """
    changes = {setting: parameters[name] for name, setting in COMMON.items() if parameters[name] not in EMPTY}
    return studies.changed(parameters["study"], changes, parameters["advanced"])
