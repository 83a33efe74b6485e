"""The form that Prefect shows for a benchmark: a study that ships, and changes to it.

Each field's schema is that of Study itself, without its default: what is left empty, or 0, stays as the chosen study
has it.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import GetJsonSchemaHandler

from flows import studies
from flows.plan import Plan
from tasks.core.design.study import Study

COMMON = {"seeds": "seeds", "epochs": "recipe.epochs", "backends": "backends", "initializers": "initializers"}
"""The fields beside the study itself, and the setting that each of them changes."""
EMPTY: tuple[object, ...] = (0, (), [])  # as a field comes that nobody has filled in; null the form itself refuses


class _Names:
    """The names of the studies that ship, as a drop-down."""

    def __get_pydantic_json_schema__(self, core_schema: object, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "enum": studies.names()}


class _Common:
    """What the Study's schema says of a setting; of alternatives, the plainest.

    It is asked for late, since installed packages add initializers.
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
    """What the Study's schema says of all settings, folded away until it is asked for."""

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
    """Return a schema whose references are resolved, and whose defaults are told instead of filled in."""
    if isinstance(schema, list):
        return [_plain(each, definitions) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        schema = definitions[schema["$ref"].removeprefix("#/$defs/")] | schema
    if schema.get("type") == "boolean":  # a switch could not be left as it is
        schema = {**schema, "type": None, "enum": [True, False]}
    plain = {
        name: _plain(value, definitions)
        for name, value in schema.items()
        if name not in ("$ref", "default") and value is not None
    }
    default = schema.get("default", "")
    if default is None and "anyOf" in plain:  # empty is the default, as which the field may be left
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
    """Return the study that the parameters of the flow ask for.

    Raises:
        StudyError: if there is no such study, or a change is not valid.
    """
    if isinstance(parameters["study"], Plan):
        return parameters["study"].study
    changes = {setting: parameters[name] for name, setting in COMMON.items() if parameters[name] not in EMPTY}
    return studies.changed(parameters["study"], changes, parameters["advanced"])
