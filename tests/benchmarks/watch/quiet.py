"""How many quiet nights raise an alarm: `python -m tests.benchmarks.watch.quiet`; a number is that of nights, 600.

Nights are drawn from real cells that nothing but rounding separates (`cells.py`), in series of NIGHTS after a baseline.
All methods see the same nights. The README has the last result.
"""

import sys
from collections import Counter

import numpy as np
from tabulate import tabulate

from tasks.core.watch import changes
from tests.benchmarks.watch import rivals
from tests.benchmarks.watch.cells import WATCHED, quiet

NIGHTS = 20


def drawn(rng, nights, *, cellwise):
    """Draw the nights of all studies that are watched, after a first one."""
    return [quiet(rng, name, nights + 1, cellwise=cellwise) for name in WATCHED]


def ours(studies):
    """Return the flags of each night but the first."""
    nights = range(1, len(studies[0].nights))
    return [[flag for own in changes.flags([each.tonight(at) for each in studies]) for flag in own] for at in nights]


def alarms(rng, nights, *, cellwise):
    """Return how many of so many quiet nights raise an alarm, by method; and of ours the flags, by level."""
    found, levels = Counter(), Counter()
    for _ in range(nights // NIGHTS):
        studies = drawn(rng, NIGHTS, cellwise=cellwise)
        raised = ours(studies)
        found["the watch"] += sum(map(bool, raised))
        levels.update(flag.level for night in raised for flag in night)
        for name, nightly in rivals.raised([each.nights for each in studies]).items():
            found[name] += sum(nightly)
    return found, levels


def main(nights):
    rows = {}
    for cellwise in (False, True):
        found, levels = alarms(np.random.default_rng(0), nights, cellwise=cellwise)
        kind = "each cell rounds its own way" if cellwise else "each night rounds its own way"
        for name, count in found.items():
            rows.setdefault(name, {"method": name})[kind] = count / (nights // NIGHTS * NIGHTS)
        print(kind, dict(levels))  # noqa: T201
    print(tabulate(list(rows.values()), headers="keys", tablefmt="github", floatfmt=".3f"))  # noqa: T201


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 600)
