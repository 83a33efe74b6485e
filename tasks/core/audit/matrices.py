"""Facts about the matrices of a kernel: whether they are orthogonal or an identity, and whether outputs are alike."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[Any]
NEAR = 1e-2  # lengths of an orthogonal matrix's vectors that differ by a larger share belong to no such matrix
LARGE = 2**22  # numbers of a matrix, above which singular values take too long
PROBES = 4  # vectors on which a large matrix is tried instead


def extremes(matrices: Sequence[Matrix], *, always: bool = False) -> tuple[float, float, int] | None:
    """Return the smallest and largest singular value of matrices, and the fewest that one of them has.

    An orthogonal matrix's vectors (rows or columns, whichever are fewer) are equally long. Where they are not, the
    matrix is not orthogonal, and None is returned at once, unless `always` asks for the values all the same. Of a large
    matrix the values are taken from a few random vectors, and None is returned if it is not orthogonal.

    >>> extremes([2 * np.eye(3, 4)])
    (2.0, 2.0, 3)
    """
    found: list[tuple[float, float]] = []
    ranks = [min(each.shape) for each in matrices]
    for matrix in matrices:
        short = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
        lengths = (
            np.sqrt((short.astype(np.float64) ** 2).sum(1)) if short.size < 2**22 else np.linalg.norm(short, axis=1)
        )
        if not always and np.ptp(lengths) > NEAR * lengths.max(initial=0.0):
            return None
        if short.size > LARGE:
            if (ends := _probed(short)) is None:
                return None
            found.append(ends)
            continue
        squares = np.linalg.eigvalsh((short @ short.T).astype(np.float64))
        found.append((float(np.sqrt(max(squares[0], 0.0))), float(np.sqrt(max(squares[-1], 0.0)))))
    return (min(low for low, _ in found), max(high for _, high in found), min(ranks)) if found else None


def _probed(short: Matrix) -> tuple[float, float] | None:
    """Return about the smallest and largest singular value of a matrix if it is nearly orthogonal, else None.

    A matrix M of orthogonal rows of length g has M Mᵀ v = g² v for every v.
    """
    probes = np.random.default_rng(0).standard_normal((len(short), PROBES), np.float32)
    back = (short @ (short.T @ probes)).astype(np.float64)
    square = float((probes * back).sum() / (probes.astype(np.float64) ** 2).sum())
    if square <= 0:
        return None
    off = float(np.linalg.norm(back / square - probes) / np.linalg.norm(probes)) / 2
    return (math.sqrt(square) * (1 - off), math.sqrt(square) * (1 + off)) if off < NEAR else None


def identity(matrices: Sequence[Matrix]) -> float | None:
    """Return the factor on the main diagonal if every matrix is a partial identity times that factor, else None.

    >>> identity([3 * np.eye(2, 3)]), identity([np.ones((2, 2))])
    (3.0, None)
    """
    factor = float(matrices[0][0, 0])
    if factor == 0 or any(min(each.shape) < 2 for each in matrices):
        return None
    same = all(np.array_equal(each, factor * np.eye(*each.shape, dtype=each.dtype)) for each in matrices)
    return factor if same else None


def alike(matrices: Matrix) -> bool:
    """Tell whether all outputs of a kernel (groups, taps, inputs, outputs) have the same weights, within each group.

    A group with one output has none that could be like it.

    >>> alike(np.ones((1, 1, 3, 2))), alike(np.ones((3, 9, 1, 1)))
    (True, False)
    """
    return matrices.shape[-1] > 1 and bool((matrices == matrices[..., :1]).all())
