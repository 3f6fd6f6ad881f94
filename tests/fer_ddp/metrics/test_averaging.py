"""The mean of several models' probabilities, by hand."""

import re

import numpy as np
import pytest
from numpy.typing import NDArray

from fer_ddp.metrics.averaging import mean_probabilities

SURE = np.array([[1.0, 0.0], [0.5, 0.5]])
UNSURE = np.array([[0.5, 0.5], [0.0, 1.0]])


def test_members_weigh_the_same() -> None:
    assert mean_probabilities([SURE, UNSURE]).tolist() == [[0.75, 0.25], [0.25, 0.75]]


def test_narrow_members_are_averaged_in_double_precision() -> None:
    thirds = np.full((1, 3), 1 / 3, dtype=np.float32)
    assert mean_probabilities([thirds] * 2).tolist() == [[float(np.float32(1 / 3))] * 3]


@pytest.mark.parametrize("members", [[], [SURE, SURE[:1]]])
def test_members_of_other_samples_are_refused(members: list[NDArray[np.float64]]) -> None:
    shapes = [member.shape for member in members]
    with pytest.raises(ValueError, match=f"^members have the shapes {re.escape(str(shapes))}; one shape for all is"):
        mean_probabilities(members)
