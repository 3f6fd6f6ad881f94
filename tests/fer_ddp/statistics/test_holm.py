"""Holm's correction against a worked example and the closed test it shortens."""

import math
from itertools import combinations

import pytest

from fer_ddp.statistics.comparison import holm


def test_a_worked_example() -> None:
    """0.005 * 4, 0.01 * 3, then 0.03 * 2, which 0.04 * 1 may not fall below."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))


def test_it_is_the_closed_test_of_bonferronis() -> None:
    """A hypothesis is rejected if every set with it is: the greatest of the sets' Bonferroni p-values."""
    p_values = [0.2, 0.013, 0.013, 0.004, 0.9, 0.031]
    sets = [chosen for size in range(1, 7) for chosen in combinations(range(6), size)]
    closed = [
        max(min(1, len(chosen) * min(p_values[other] for other in chosen)) for chosen in sets if index in chosen)
        for index in range(6)
    ]
    assert holm(p_values) == pytest.approx(closed)


def test_one_comparison_keeps_its_p_value() -> None:
    assert holm([0.04]) == (0.04,)


def test_no_p_value_is_above_one() -> None:
    assert holm([0.0, 1.0, 0.6]) == (0.0, 1.0, 1.0)


def test_no_comparison_has_no_p_value() -> None:
    assert holm([]) == ()


@pytest.mark.parametrize("wrong", [-0.1, 1.1, math.nan])
def test_what_is_no_probability_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match=rf"^p-values \[0.5, {wrong}\]; numbers in 0 to 1 are right$"):
        holm([0.5, wrong])
