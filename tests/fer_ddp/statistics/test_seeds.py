"""A recipe over its seeds: cases whose interval is known otherwise."""

import re

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from fer_ddp.statistics.intervals import score_interval, wilson_interval
from fer_ddp.statistics.seeds import summarize_seeds


def table(rows: list[list[int]]) -> NDArray[np.bool_]:
    return np.array(rows, dtype=np.bool_)


def test_a_case_by_hand() -> None:
    """Rows add up to 3 and 2, columns to 2, 1, 2, 0: the mean squares are 1/8, 11/24 and (15 - 1 - 11) / 24 = 1/8."""
    summary = summarize_seeds(table([[1, 1, 1, 0], [1, 0, 1, 0]]))
    assert (summary.accuracies, summary.mean) == ((0.75, 0.5), 0.625)
    assert summary.standard_deviation == pytest.approx(0.25 / np.sqrt(2))
    assert summary.interval == pytest.approx(score_interval(0.625, 11 / 24 / 8, 3.182446305), abs=1e-9)


def test_one_seed_has_wilsons_interval() -> None:
    summary = summarize_seeds(table([[1, 1, 0, 1, 0]]))
    assert summary.interval == wilson_interval(3, 5)
    assert (summary.mean, summary.standard_deviation) == (0.6, None)
    assert summarize_seeds(table([[1, 1, 0, 1, 0]]), confidence=0.5).interval == wilson_interval(3, 5, 0.5)


def test_seeds_that_agree_on_every_sample_count_as_one() -> None:
    row = np.arange(1000) % 10 < 7
    interval = summarize_seeds(np.stack([row] * 5)).interval
    assert interval == pytest.approx(score_interval(0.7, 0.21 / 999, stats.t.isf(0.025, 999)), abs=1e-12)


def test_samples_that_tell_nothing_leave_the_t_interval_over_seeds() -> None:
    """Each seed is right everywhere or nowhere, so the variance is that of the mean of 4 numbers."""
    interval = summarize_seeds(np.repeat(table([[1], [1], [0], [1]]), 50, axis=1)).interval
    assert interval == pytest.approx(score_interval(0.75, 0.25 / 4, stats.t.isf(0.025, 3)), abs=1e-12)


@pytest.mark.parametrize("right", [0, 20])
def test_seeds_that_are_all_right_or_all_wrong_count_as_one_run(right: int) -> None:
    correct = np.full((3, 20), right > 0)
    assert summarize_seeds(correct).interval == wilson_interval(right, 20)


def test_another_confidence_has_its_own_quantile() -> None:
    row = np.arange(1000) % 10 < 7
    summary = summarize_seeds(np.stack([row, row]), confidence=0.99)
    assert summary.interval == pytest.approx(score_interval(0.7, 0.21 / 999, stats.t.isf(0.005, 999)), abs=1e-12)


@pytest.mark.parametrize(
    ("correct", "said"),
    [
        (np.ones((2, 3)), "float64 (2, 3)"),
        (np.ones(3, dtype=np.bool_), "bool (3,)"),
        (np.ones((0, 3), dtype=np.bool_), "bool (0, 3)"),
        (np.ones((2, 1), dtype=np.bool_), "bool (2, 1)"),
    ],
)
def test_what_is_not_a_table_of_seeds_and_samples_is_refused(correct: NDArray[np.bool_], said: str) -> None:
    sentence = f"correct is {said}; bool (seeds, samples) with at least one seed and two samples is right"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        summarize_seeds(correct)


def test_a_confidence_in_percent_is_refused() -> None:
    with pytest.raises(ValueError, match="^confidence 95 must lie between 0 and 1; 0.95 is usual$"):
        summarize_seeds(table([[1, 0], [1, 1]]), confidence=95)
