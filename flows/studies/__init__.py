"""The studies that ship, one YAML file each, and how a study is read from a file."""

from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tasks import documents
from tasks.core.design.faults import faults
from tasks.core.design.nearest import choice
from tasks.core.design.study import Study

FOLDER = Path(__file__).parent
GROUPS = ("network", "recipe", "split")
KINDS = {"build", "load", "path"}  # settings that make a network or dataset one of another kind
NAMING = ("factors", "tune")
"""Settings whose keys are names of other settings, such as `recipe.epochs`."""


class StudyError(ValueError):
    """A study is not valid; `faults` has one line for each fault."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = [" ".join(fault.split()) for fault in faults]
        super().__init__("\n".join(self.faults))


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
        raise StudyError([f"no study {source!r}; {choice(source, names())}, or give a .yaml file that exists"])
    settings = _parse(path.read_bytes(), f"{path} must be valid YAML")
    if not isinstance(settings, dict):
        raise StudyError([f"{path} must hold a mapping of settings; it holds {_kind(settings)}"])
    before: list[str] = []
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals or not name.rpartition(".")[2]:
            raise StudyError([f"a change must look like dotted.key=value; got {change!r}"])
        if undone := [each for each in before if f"{each}.".startswith(f"{name}.")]:
            raise StudyError([f"a change must not undo an earlier one; {name} undoes {undone[0]}"])
        before.append(name)
        _change(settings, name, _parse(text, f"{name} must be valid YAML"))
    return _valid(settings)


def changed(study: Study | str, changes: Mapping[str, Any], groups: Mapping[str, Any]) -> Study:
    """Return a study, given itself or by the name under which it ships, with changes.

    changes: values by dotted names, as `recipe.epochs`; groups: nested settings, as in a YAML file.

    Raises:
        StudyError: if there is no such study, or a change is not valid.
    """
    if isinstance(study, str) and study not in names():
        raise StudyError([f"study: no study {study!r}; {choice(study, names())}"])
    known = load(study) if isinstance(study, str) else study
    if not changes and not groups:
        return known
    settings = known.model_dump(mode="json", exclude_unset=True)
    for name, value in changes.items():
        _change(settings, name, value)
    return _valid(_merged(settings, groups))


def _merged(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with changes: groups of settings are merged, all other values are replaced.

    A group of another kind, such as a network of one's own in place of a perceptron, is a value.
    """
    merged = dict(settings)
    for name, value in changes.items():
        old = merged.get(name)
        if isinstance(old, Mapping) and isinstance(value, Mapping) and not KINDS & (value.keys() - old.keys()):
            value = _merged(old, value)
        merged[name] = value
    return merged


def _valid(settings: dict[str, Any]) -> Study:
    try:
        return Study.model_validate(settings)
    except ValidationError as error:
        raise StudyError(faults(error, settings, Study)) from None


def _parse(text: str | bytes, rule: str) -> Any:
    try:
        return documents.read(text)
    except ValueError as error:
        raise StudyError([f"{rule}: {error}"]) from None


def _kind(value: object) -> str:
    """Return a word for what a document holds that is no mapping."""
    return "nothing" if value is None else "a list" if isinstance(value, list) else "a single value"


def _change(settings: dict[str, Any], name: str, value: object) -> None:
    *parents, last = _keys(name)
    for parent in parents:
        if settings.get(parent) is None:
            settings[parent] = {}
        settings = settings[parent]
        if not isinstance(settings, dict):
            raise StudyError([f"{name}: {parent} is a value, not a group of settings"])
    settings[last] = value


def _keys(name: str) -> list[str]:
    """Return the keys that lead to a setting of a dotted name.

    Below NAMING, a group of settings and the word after it are one key, because settings are named there.

    >>> _keys("recipe.epochs"), _keys("tune.recipe.learning_rate"), _keys("factors.remedy.none")
    (['recipe', 'epochs'], ['tune', 'recipe.learning_rate'], ['factors', 'remedy', 'none'])
    """
    first, *words = name.split(".")
    keys = [first]
    for word in words:
        if first in NAMING and len(keys) > 1 and keys[-1] in GROUPS:
            keys[-1] += f".{word}"
        else:
            keys.append(word)
    return keys
