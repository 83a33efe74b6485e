"""How often an audit calls a right law wrong, and how often it finds a standard deviation that is off.

`python -m tests.calibration.audits` prints the figures in `tasks/core/audit/README.md`; it takes some minutes. A number
behind it is that of parts for each row of the first table, 200,000 unless given: 1,000 models of 200 parts.
"""

import sys

import numpy as np
from tabulate import tabulate

from tasks.core.audit import laws
from tasks.core.design.initializers import Normal, TruncatedNormal, Uniform

LAWS = {"normal": Normal(1.0), "normal cut at ±2": TruncatedNormal(1.0), "uniform": Uniform(1.0)}
LEVELS = (1e-2, 1e-3, 1e-4, laws.level(laws.USUAL))
SIZES = (20, 320)  # values of a part over five seeds
LAYER = 64 * 64 * 5  # of a layer of 64 × 64
OFF = (1.02, 1.03, 1.05, 1.1)
TOGETHER = 2**21  # values that are drawn at once


def p_values(rng, law, size, count, factor=1.0):
    """Return the p-values of so many parts of a size, whose values are a factor too wide for the law."""
    found = []
    while len(found) < count:
        rows = min(count - len(found), max(1, TOGETHER // size))
        drawn = np.sort(factor * law.draw(rows, size, rng=rng), axis=1)
        found += [laws.p_value(law, row) for row in drawn]
    return np.array(found)


def false(rng, law, size, count):
    """Return the share of right laws that are called wrong, at each of LEVELS."""
    found = p_values(rng, law, size, count)
    return [float((found < level).mean()) for level in LEVELS]


def power(rng, law, factor, count, size=LAYER):
    """Return the share of parts whose standard deviation is off by a factor that are found, in a model of USUAL."""
    return float((p_values(rng, law, size, count, factor) < LEVELS[-1]).mean())


if __name__ == "__main__":
    asked = int(sys.argv[1]) if len(sys.argv) > 1 else laws.USUAL * 1000
    rows = [
        {"law": name, "values": size, **{f"{each:g}": share for each, share in zip(LEVELS, found, strict=True)}}
        for name, law in LAWS.items()
        for size in SIZES
        for found in [false(np.random.default_rng(size), law, size, asked)]
    ]
    print(tabulate(rows, headers="keys", floatfmt=".2g"))  # noqa: T201
    powers = [
        {"law": name, **{f"{factor - 1:.0%}": power(np.random.default_rng(1), law, factor, 500) for factor in OFF}}
        for name, law in LAWS.items()
    ]
    print(tabulate(powers, headers="keys", floatfmt=".3f"))  # noqa: T201
