"""The answer to a name that nobody knows: the nearest one, and all names that may be chosen."""

from collections.abc import Iterable
from difflib import get_close_matches

RESEMBLES = 0.7  # of difflib's ratio, which is 1 for equal words; at its own 0.6 `target` resembles `dataset`
LISTED = 40  # names that are listed; a table can have thousands of columns


def near(given: object, names: Iterable[str]) -> str | None:
    """Return the name that resembles what was given, whatever the case of its letters, or None.

    >>> near("Rellu", ["relu", "tanh"]), near("xavier", ["relu", "tanh"])
    ('relu', None)
    """
    spelled = {name.lower(): name for name in names}
    found = get_close_matches(str(given).lower(), spelled, n=1, cutoff=RESEMBLES)
    return spelled[found[0]] if found else None


def choice(given: object, allowed: Iterable[str]) -> str:
    """Return what may be given instead of an unknown name; the nearest name comes first, if one is near.

    >>> choice("he_norml", ["he_normal", "zeros"])
    "did you mean 'he_normal'? Choose one of he_normal, zeros"
    >>> choice("xavier", ["he_normal", "zeros"])
    'choose one of he_normal, zeros'
    """
    names = list(allowed)
    more = f", … ({len(names)} in all)" if len(names) > LISTED else ""
    listed = f"hoose one of {', '.join(names[:LISTED])}{more}"
    nearest = near(given, names)
    return f"did you mean {nearest!r}? C{listed}" if nearest else f"c{listed}"
