"""Rules: which law a layer of a network of one's own gets, in place of the cell's initializer.

A rule is a pattern and the label of an initializer. Values of its parameters may be expressions, in `fan_in` and
`fan_out` of the kernel and in the options of the network: `random_normal(std=0.02/sqrt(2*depth))`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase

from tasks.core.design import expressions
from tasks.core.design.initializers import AS_BUILT, Initializer, base, parameterized, pieces, value
from tasks.core.design.nearest import choice

FANS = ("fan_in", "fan_out")
LISTED = 12  # layers that an error names


def rule(given: object) -> object:
    """Return the one spelling of a rule, from a name, a label, or a mapping of a name and parameters.

    Raises:
        ValueError: if the initializer or a parameter is unknown, or a number is not allowed.

    >>> rule({"name": "random_normal", "std": "0.02/sqrt(2*depth)"})
    'random_normal(std=0.02/sqrt(2*depth))'
    """
    if isinstance(given, Mapping):
        if "name" not in given:
            raise ValueError(f"a rule must look like {{name: random_normal, std: 0.02}}; got {given}")
        name, parameters = str(given["name"]), {key: str(each) for key, each in given.items() if key != "name"}
    elif isinstance(given, str):
        name, parameters = pieces(given)
    else:
        return given
    law = base(name).law
    known = [field.name for field in fields(law)]  # type: ignore[arg-type]  # laws are dataclasses
    for key, text in parameters.items():
        if key not in known:
            raise ValueError(f"{name} has no parameter {key!r}; {choice(key, known) if known else 'it has none'}")
        if isinstance(value(text), str) and not _word(law, key):
            expressions.names(text)
    numbers = {key: each for key, text in parameters.items() if not isinstance(each := value(text), str)}
    parameterized(name, numbers)
    inside = ", ".join(f"{key}={text}" for key, text in parameters.items())
    return f"{name}({inside})" if inside else name


def _word(law: object, key: str) -> bool:
    """Tell whether a parameter of a law is a word, such as a mode, and no number: its default is a word then."""
    return isinstance(getattr(law, key), str)


@dataclass(frozen=True)
class Rules:
    """The rules of a network: labels by pattern, of which the first that matches counts; and values for expressions."""

    labels: Mapping[str, str]
    values: Mapping[str, float]

    def of(self, names: Sequence[str]) -> str | None:
        """Return the label of the first rule that matches one of the names that something has, or None."""
        return next((label for pattern, label in self.labels.items() if _matches(pattern, names)), None)

    def law(self, label: str, fan_in: float, fan_out: float) -> Initializer:
        """Return the initializer that a rule's label means for a kernel with these fans.

        Raises:
            ValueError: if an expression is no number, or not one that the law allows.

        >>> Rules({}, {"depth": 8}).law("random_normal(std=0.02/sqrt(2*depth))", 4, 4).law
        Normal(std=0.005)
        """
        name, parameters = pieces(label)
        values, law = {**self.values, "fan_in": fan_in, "fan_out": fan_out}, base(name).law
        given: dict[str, object] = {key: value(text) for key, text in parameters.items()}
        computed = {
            key: expressions.evaluate(each, values)
            for key, each in given.items()
            if isinstance(each, str) and not _word(law, key)
        }
        return parameterized(name, given | computed)

    def check(self, names: Iterable[Sequence[str]]) -> None:
        """Check that every pattern matches something; names: those of each layer and parameter, the layer's first.

        Raises:
            ValueError: if a pattern matches nothing; it lists the layers.
        """
        known = list(names)
        for pattern in self.labels:
            if not any(_matches(pattern, each) for each in known):
                firsts = [each[0] for each in known]
                more = f" and {len(firsts) - LISTED} more" if len(firsts) > LISTED else ""
                raise ValueError(
                    f"network.rules: {pattern!r} must match a layer or a parameter; there are "
                    f"{', '.join(firsts[:LISTED])}{more}"
                )


def _matches(pattern: str, names: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for name in names)


def kept(label: str) -> bool:
    """Tell whether a label leaves parameters as the model's author built them."""
    return base(pieces(label)[0]) is AS_BUILT
