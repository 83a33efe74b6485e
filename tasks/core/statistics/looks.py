"""Looks: what is paid for judging a question again with more seeds.

Who adds seeds until a difference is seen sees one in the end. So the chance of a false difference is shared out over
the looks: 5 % for the first one, as if it were the only one, and 1 % for all later ones together.
"""

from tasks.core.statistics.inference import ALPHA

LATER = 0.01  # chance of a false difference in any look after the first one
"""Look k has LATER / (k (k - 1)) of it, which adds up to LATER over however many looks."""


def price(look: int) -> float:
    """Return the factor by which the p-values of a look are multiplied; looks count from 1.

    >>> [round(price(look)) for look in (1, 2, 3, 6)]
    [1, 10, 30, 150]
    """
    return 1.0 if look == 1 else ALPHA / LATER * look * (look - 1)
