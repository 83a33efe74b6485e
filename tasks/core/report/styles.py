"""Styles: how initializers and backends look in every picture of a benchmark.

The name of an initializer decides its colour and marker, in every benchmark. A backend is a line's dashes or a marker's
shape.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_rgb

from tasks.core.design.initializers import names
from tasks.core.design.study import Study

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#999999")
"""Okabe & Ito (2008), whose colours colour-blind readers tell apart. Grey replaces their yellow, which white paper
swallows."""
DASHES: dict[str, Literal["-", "--"]] = {"pytorch": "-", "keras": "--"}
SHAPES = {"pytorch": "o", "keras": "D"}
MARKERS = "osD^vPX*<>"
FEW = 2  # up to so many initializers of one name are shades of its colour; more are a scan, coloured by a colour map
SHADE = 0.6  # of the way to white at most

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Style:
    """How an initializer is drawn."""

    colour: Colour
    marker: str


def styles(labels: Iterable[str]) -> dict[str, Style]:
    """Return the style of each initializer. The order of the labels does not matter.

    An initializer has the colour of its name. If a more usual initializer among the labels has the same colour, it has
    the next colour that is free. Several initializers of one name, which differ in their parameters, are shades of the
    colour in the order of their parameters.
    """
    order = list(dict.fromkeys([*Study().initializers, *names()]))  # the default study's initializers differ in colour
    alike: dict[str, list[str]] = {}
    for label in sorted(set(labels), key=_natural):
        alike.setdefault(label.partition("(")[0], []).append(label)
    found = {}
    free = list(PALETTE)
    for name in sorted(alike, key=order.index):
        place = order.index(name)
        colour = _colour(place, free)
        free = [other for other in free if other != colour]
        for rank, label in enumerate(alike[name]):
            marker = MARKERS[(place + place // len(PALETTE) + rank) % len(MARKERS)]
            found[label] = Style(_shade(colour, rank, len(alike[name])), marker)
    return found


def _colour(place: int, free: list[str]) -> str:
    colour = PALETTE[place % len(PALETTE)]
    return colour if colour in free or not free else free[0]


def _shade(colour: str, rank: int, of: int) -> Colour:
    """Return the colour of an initializer that is at a rank of so many initializers of its name."""
    share = rank / of
    own = np.array(to_rgb(colour))
    red, green, blue = colormaps["cividis"](share)[:3] if of > FEW else own + SHADE * share * (1 - own)
    return red, green, blue


def _natural(label: str) -> list[str | float]:
    """Return a key that sorts labels by the numbers in them."""
    return [float(part) if at % 2 else part for at, part in enumerate(re.split(r"(-?\d+\.?\d*(?:e-?\d+)?)", label))]
