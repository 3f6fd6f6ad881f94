"""Several comparisons at once."""

from collections.abc import Sequence

import numpy as np


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjust p-values so that rejecting those below 0.05 errs even once with probability 0.05 at most.

    Whatever the comparisons have to do with each other. In the order given, each in [0, 1] and at least its own.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6
    (1979), 65-70.

    Raises ValueError for a p-value outside [0, 1].
    """
    given = np.asarray(p_values, dtype=np.float64)
    if not ((given >= 0) & (given <= 1)).all():  # false for NaN
        raise ValueError(f"p-values {given.tolist()}; numbers in 0 to 1 are right")
    order = np.argsort(given, kind="stable")
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(given[order] * np.arange(len(given), 0, -1)))
    return tuple(adjusted.tolist())
