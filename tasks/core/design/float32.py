"""The numbers that training can use. Networks are trained in float32, which holds numbers from 1e-38 to 3e38 in size.

Training multiplies and divides settings and weights by others, so the settings themselves stay away from these ends.
"""

from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field

LARGEST = float(np.finfo(np.float32).max)
SMALL, LARGE = 1e-30, 1e30  # the sizes that a setting may have


def held(value: float) -> float:
    """Return a number unchanged, after a check that it is 0 or that float32 holds what is computed with it.

    Raises:
        ValueError: if the number is smaller than 1e-30 or larger than 1e30 in size.

    >>> held(-0.01)
    -0.01
    """
    if value and not SMALL <= abs(value) <= LARGE:
        raise ValueError(f"Input should be from {SMALL:g} to {LARGE:g} in size, for networks are trained in float32")
    return value


Positive = Annotated[float, Field(gt=0), AfterValidator(held)]
NonNegative = Annotated[float, Field(ge=0), AfterValidator(held)]
