"""YAML documents: how studies, and the values of changes to them, are read and written.

Plain words mean what the core schema of YAML 1.2 says, where PyYAML's own loaders follow 1.1: `yes` and `no` are text,
`010` is ten, and `1e-3` is a number. A key that is given twice is refused.
"""

import re
from collections.abc import Callable
from typing import Any, ClassVar

import yaml
from yaml.constructor import ConstructorError, SafeConstructor
from yaml.nodes import MappingNode, ScalarNode
from yaml.resolver import Resolver

TAG = "tag:yaml.org,2002:"
MERGE = TAG + "merge"  # `<<: *other` takes over another mapping's keys, which 1.2 dropped and people use
PLAIN: dict[str, tuple[str, Callable[[str], object]]] = {
    "null": (r"null|Null|NULL|~|", lambda _: None),
    "bool": (r"true|True|TRUE|false|False|FALSE", lambda text: text.lower() == "true"),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", lambda text: int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        lambda text: float(re.sub(r"\.(?=[a-zA-Z])", "", text)),
    ),
}
"""Of each kind of plain word, its pattern in the core schema (YAML 1.2.2, section 10.3.2), and how it is read."""


class _Resolver(Resolver):
    """Tells the kind of a plain word by the patterns of the core schema."""

    yaml_implicit_resolvers: dict[str | None, Any] = {}  # noqa: RUF012  # PyYAML's; without those of its base class


for _kind, (_pattern, _) in {**PLAIN, "merge": ("<<", str)}.items():
    _Resolver.add_implicit_resolver(TAG + _kind, re.compile(rf"(?:{_pattern})\Z"), None)


class _Loader(_Resolver, yaml.SafeLoader):
    """Reads text, null, true and false, numbers, lists and mappings, and refuses a key that is given twice."""

    yaml_constructors: ClassVar[dict[str | None, Any]] = {
        **{tag: SafeConstructor.yaml_constructors[tag] for tag in (TAG + "str", TAG + "seq", TAG + "map", None)},
        MERGE: SafeConstructor.yaml_constructors[TAG + "str"],
    }

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key for key, _ in node.value if key.tag != MERGE]
        names = [self.construct_object(key, deep=True) for key in keys]
        for at, (key, name) in enumerate(zip(keys, names, strict=True)):
            if name in names[:at]:
                raise ConstructorError(None, None, f"the key {name!r} is given twice", key.start_mark)
        return super().construct_mapping(node, deep)

    def construct_plain(self, node: ScalarNode) -> object:
        kind, text = node.tag.removeprefix(TAG), self.construct_scalar(node)
        pattern, read = PLAIN[kind]
        if not re.fullmatch(pattern, text):
            raise ConstructorError(None, None, f"{text!r} is no {kind}", node.start_mark)
        return read(text)


for _kind in PLAIN:
    _Loader.add_constructor(TAG + _kind, _Loader.construct_plain)


class _Dumper(_Resolver, yaml.SafeDumper):
    """Quotes text that would be read as something else."""


def read(text: str | bytes) -> Any:
    """Return what a YAML document holds.

    Raises:
        ValueError: if the document is not valid YAML, gives a key twice, or holds something else than text, null, true
            and false, numbers, lists and mappings.

    >>> read("{rate: 1e-3, depth: 010, bias: no}")
    {'rate': 0.001, 'depth': 10, 'bias': 'no'}
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506  # a SafeLoader
    except RecursionError:
        raise ValueError("the document is nested too deeply") from None
    except yaml.MarkedYAMLError as error:
        raise ValueError(_told(error)) from None
    except yaml.reader.ReaderError as error:
        raise ValueError(f"unacceptable character at position {error.position}: {error.reason}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(" ".join(str(error).split())) from None


def _told(error: yaml.MarkedYAMLError) -> str:
    """Return where a document is wrong and what is wrong there, with the line on which the wrong part begins."""
    mark, start = error.problem_mark, error.context_mark
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    since = f" from line {start.line + 1}" if mark and start and start.line < mark.line else ""
    context = f"{error.context}{since}" if error.context else ""
    return place + " ".join(", ".join(filter(None, (context, error.problem))).split())


def write(value: object) -> str:
    """Return a YAML document that `read` reads as this value.

    >>> print(write({"rate": "1e-3", "bias": "no"}), end="")
    rate: '1e-3'
    bias: no
    """
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False)
