"""What is wrong with settings, in words: one line for each setting, with the rule and what was given."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from tasks.core.design.nearest import choice, near

LONG = 120  # characters; a line shows a wrong value only if it is shorter
START = "Input should be "  # of pydantic's messages
KINDS = {
    "int": "a whole number",
    "float": "a number",
    "string": "text",
    "bool": "true or false",
    "tuple": "a list",
    "dict": "a mapping",
    "model": "a mapping of settings",
}
"""Words for what pydantic expects, by the start of an error's type."""
SINGLE = {"int_type", "float_type", "string_type", "bool_type"}  # a value that may be any of these is a single value


def faults(error: ValidationError, settings: Any, model: type[BaseModel]) -> list[str]:
    """Return a line for each wrong setting: its name, the rule, and the value that was given.

    settings: what was given; model: what it should have become.

    A setting that can be of several types has an error for each. If an error is about a part of the value, the line has
    that alone; else it lists what is allowed.
    """
    by_place: dict[tuple[str, ...], list[Any]] = {}
    for fault in error.errors(include_url=False):
        by_place.setdefault(_place(fault["loc"], settings), []).append(fault)
    whole = {place[:at] for place in by_place for at in range(1, len(place))}
    return [_line(place, found, model, settings) for place, found in by_place.items() if place not in whole]


def _place(location: Sequence[int | str], settings: Any) -> tuple[str, ...]:
    """Return the name of a setting from pydantic's location, without the types that pydantic tried there."""
    path = []
    for step in location:
        listed = isinstance(settings, Sequence) and isinstance(step, int) and step < len(settings)
        if listed or (isinstance(settings, Mapping) and step in settings):
            settings = settings[step]
            path.append(str(step))
    return tuple(path)


def _line(place: tuple[str, ...], found: Sequence[Any], model: type[BaseModel], settings: Any) -> str:
    kinds = {fault["type"] for fault in found}
    if "missing" in kinds:
        found = [fault for fault in found if fault["type"] == "missing"]
        words = _with_value(" and ".join(f"{fault['loc'][-1]} is required" for fault in found), found[0]["input"])
    elif "extra_forbidden" in kinds:
        words = _with_value(f"no such setting; {_other(place, model, settings)}", found[0]["input"])
    else:
        words = rule(found) if place else _words(found)
    return f"{'.'.join(place) or 'study'}: {words}"


def rule(found: Sequence[Any]) -> str:
    """Return what is allowed where a value was given, the value, and the nearest word that is allowed, if one is near.

    found: the errors that pydantic has about the value.
    """
    nearest = near(found[0]["input"], [name for fault in found for name in _names(fault)])
    return _with_value(_words(found), found[0]["input"]) + (f"; did you mean {nearest!r}?" if nearest else "")


def _with_value(words: str, value: object) -> str:
    given = repr(value)
    return words if "; got " in words or len(given) > LONG else f"{words}; got {given}"


def _words(found: Sequence[Any]) -> str:
    """Return what is allowed where a value was given.

    Errors about the value's type are left out if the value is of one of the types and breaks another rule.
    """
    broken = [fault for fault in found if _kind(fault) is None]
    meant = broken if any(fault["type"] != "literal_error" for fault in broken) else found
    given, kinds = meant[0]["input"], {fault["type"] for fault in meant}
    if kinds >= SINGLE:
        return f"{START}a single value"
    if kinds == {"tuple_type"} and isinstance(given, str | int | float):
        return f"{START}a list, like [{given}]"
    words = list(dict.fromkeys(_allowed(fault) for fault in meant))
    start = START if all(word.startswith(START) for word in words) else ""
    return start + " or ".join(word.removeprefix(start) for word in words)


def _kind(fault: Any) -> str | None:
    """Return words for the kind of value that an error asks for, or None if the error is about something else."""
    start, _, end = fault["type"].partition("_")
    return KINDS.get(start) if end in ("type", "parsing", "from_float") else None


def _allowed(fault: Any) -> str:
    kind = _kind(fault)
    return f"{START}{kind}" if kind else str(fault["msg"]).removeprefix("Value error, ")


def _names(fault: Any) -> list[str]:
    """Return the words that a setting may have, from pydantic's message: 'relu', 'tanh' or 'linear'."""
    return str(fault["ctx"]["expected"]).split("'")[1::2] if fault["type"] == "literal_error" else []


def _other(place: Sequence[str], model: type[BaseModel], settings: Any) -> str:
    """Return which settings there are in a group, with the one that was meant."""
    *group, name = place
    for step in group:
        settings = settings[int(step)] if isinstance(settings, Sequence) else settings[step]
        model = _inside(model, step, settings, name)
    names = list(model.model_fields)
    parts = {each: field.annotation for each, field in model.model_fields.items()}
    deeper = [f"{each}.{name}" for each, part in parts.items() if name in getattr(part, "model_fields", ())]
    listed = choice(name, names)
    return f"did you mean {deeper[0]!r}? C{listed[1:]}" if deeper and not near(name, names) else listed


def _inside(model: type[BaseModel], step: str, settings: Any, name: str) -> type[BaseModel]:
    """Return the model of a part: of a field, or of an element or value of a field, whose number or key `step` is.

    Of several models it is the one that has most of the settings that were given, and not the one of this name, which
    was refused, unless the name is further inside.
    """
    field = model.model_fields.get(step)
    parts = (field.annotation, *get_args(field.annotation)) if field else ()
    models = [part for part in parts if hasattr(part, "model_fields")]
    known = [part for part in models if name not in settings or name not in part.model_fields]
    return max(known, key=lambda part: len({*part.model_fields} & {*map(str, settings)}), default=model)
