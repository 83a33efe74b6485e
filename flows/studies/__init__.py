"""The studies that ship, one YAML file each, and how a study is read from a file."""

from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from tasks.core.design.study import Study

FOLDER = Path(__file__).parent
LONG = 120  # characters; an error shows a wrong value only if it is shorter


class StudyError(ValueError):
    """A study is not valid; `faults` has one line for each fault."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = faults
        super().__init__("\n".join(faults))


def names() -> list[str]:
    """Return the names of the studies that ship."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def summary(name: str) -> str:
    """Return the description of a study that ships: the comment at the top of its file."""
    lines = takewhile(lambda line: line.startswith("#"), (FOLDER / f"{name}.yaml").read_text().splitlines())
    return " ".join(line.removeprefix("# ") for line in lines)


def load(source: str, changes: Sequence[str] = ()) -> Study:
    """Return a study that ships, or one from a YAML file, with changes of the form `dotted.key=value`.

    Raises:
        StudyError: if there is no such study, or the study or a change is not valid.

    >>> load("iris", ["recipe.epochs=5"]).recipe.epochs
    5
    """
    path = FOLDER / f"{source}.yaml" if source in names() else Path(source)
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        raise StudyError([f"no study {source!r}; choose one of {', '.join(names())}, or give a .yaml file that exists"])
    settings = _parse(path.read_bytes(), f"{path} must be valid YAML")
    if not isinstance(settings, dict):
        raise StudyError([f"{path} must hold a mapping of settings; it holds {type(settings).__name__}"])
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals or not name.rpartition(".")[2]:
            raise StudyError([f"a change must look like dotted.key=value; got {change!r}"])
        _change(settings, name, _parse(text, f"{name} must be valid YAML"))
    return _valid(settings)


def changed(study: Study | str, changes: Mapping[str, Any], groups: Mapping[str, Any]) -> Study:
    """Return a study, given itself or by the name under which it ships, with changes.

    changes: values by dotted names, as `recipe.epochs`; groups: nested settings, as in a YAML file.

    Raises:
        StudyError: if there is no such study, or a change is not valid.
    """
    if isinstance(study, str) and study not in names():
        raise StudyError([f"study: no study {study!r}; choose one of {', '.join(names())}"])
    known = load(study) if isinstance(study, str) else study
    if not changes and not groups:
        return known
    settings = known.model_dump(mode="json", exclude_unset=True)
    for name, value in changes.items():
        _change(settings, name, value)
    return _valid(_merged(settings, groups))


def _merged(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with changes: groups of settings are merged, all other values are replaced."""
    merged = dict(settings)
    for name, value in changes.items():
        old = merged.get(name)
        merged[name] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _valid(settings: dict[str, Any]) -> Study:
    try:
        return Study.model_validate(settings)
    except ValidationError as error:
        raise StudyError(_faults(error, settings)) from None


def _parse(text: str | bytes, rule: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StudyError([f"{rule}: {' '.join(str(error).split())}"]) from None


def _change(settings: dict[str, Any], name: str, value: object) -> None:
    *parents, last = name.split(".")
    for parent in parents:
        settings = settings.setdefault(parent, {})
        if not isinstance(settings, dict):
            raise StudyError([f"{name}: {parent} is a value, not a group of settings"])
    settings[last] = value


def _faults(error: ValidationError, settings: dict[str, Any]) -> list[str]:
    """Return a line for each wrong setting: its name, the rule, and the value that was given."""
    by_place: dict[tuple[str, ...], list[Any]] = {}
    for fault in error.errors():
        by_place.setdefault(_place(fault["loc"], settings), []).append(fault)
    return [_line(place, faults) for place, faults in by_place.items()]


def _place(location: tuple[int | str, ...], settings: Any) -> tuple[str, ...]:
    """Return the name of a setting from pydantic's location, without the alternatives that pydantic tried there."""
    path = []
    for step in location:
        listed = isinstance(settings, list) and isinstance(step, int)
        if not listed and not (isinstance(settings, dict) and step in settings):
            break
        path.append(str(step))
        settings = settings[step]
    return tuple(path)


def _line(place: tuple[str, ...], faults: Sequence[Any]) -> str:
    missing = [fault for fault in faults if fault["type"] == "missing"]
    meant = missing or [fault for fault in faults if not fault["type"].endswith("_type")] or faults
    if missing:
        rules = [f"{fault['loc'][-1]} is required" for fault in missing]
    elif meant[0]["type"] == "extra_forbidden":
        rules = [f"no such setting; choose one of {', '.join(_settings(place[:-1]))}"]
    else:
        rules = [fault["msg"].removeprefix("Value error, ") for fault in meant]
    given = repr(meant[0]["input"])
    got = f"; got {given}" if place and len(given) < LONG and "; got " not in rules[0] else ""
    return f"{'.'.join(place) or 'study'}: {' or '.join(dict.fromkeys(rules))}{got}"


def _settings(group: tuple[str, ...]) -> list[str]:
    """Return the names of the settings in a group of a study.

    >>> _settings(("overrides", "keras"))[:2]
    ['optimizer', 'learning_rate']
    """
    kind: Any = Study
    for step in group:
        kind = kind.model_fields[step].annotation if hasattr(kind, "model_fields") else get_args(kind)[-1]
    return list(kind.model_fields)
