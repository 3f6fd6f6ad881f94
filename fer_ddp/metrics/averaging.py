"""The mean of several models' probabilities."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def mean_probabilities(members: Sequence[NDArray[np.floating[Any]]]) -> NDArray[np.float64]:
    """The mean of several models' probabilities for the same samples.

    members: a (n, classes) each, the same samples in the same order. Returns (n, classes).

    Raises ValueError for no member or unequal shapes.
    """
    if not members or len({member.shape for member in members}) != 1:
        raise ValueError(f"members have the shapes {[member.shape for member in members]}; one shape for all is right")
    total = np.zeros(members[0].shape)
    for member in members:
        total += np.float64(1 / len(members)) * member  # not stacked: a stack of many members is large
    return total
