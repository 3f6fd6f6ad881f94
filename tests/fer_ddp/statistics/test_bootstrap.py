"""The bootstrap of macro-F1: cases whose distribution is known."""

import re
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom
from sklearn.metrics import f1_score

from fer_ddp.statistics.intervals import bootstrap_macro_f1


def test_two_small_classes_have_the_quantiles_of_all_that_can_be_drawn() -> None:
    """Each class is right a binomial number of times; scikit-learn measures every outcome.

    At this confidence the tails lie between outcomes, 8 standard errors of the resampling from the next.
    """
    outcomes = []
    for first, second in product(range(9), range(13)):
        chance = binom.pmf(first, 8, 5 / 8) * binom.pmf(second, 12, 9 / 12)
        predicted = [0] * first + [1] * (8 - first) + [1] * second + [0] * (12 - second)
        outcomes.append((f1_score([0] * 8 + [1] * 12, predicted, average="macro"), chance))
    outcomes.sort()
    cumulated = np.cumsum([chance for _, chance in outcomes])
    bounds = [outcomes[int(np.searchsorted(cumulated, tail))][0] for tail in (0.03, 0.97)]
    interval = bootstrap_macro_f1(np.array([[5, 3], [3, 9]]), resamples=100_000, confidence=0.94)
    assert interval == pytest.approx(bounds, abs=1e-12)


def test_without_chance_macro_f1_is_scikit_learns() -> None:
    """Class 1 is always taken for class 2, which the split lacks; so its recall doesn't count."""
    interval = bootstrap_macro_f1(np.array([[4, 0, 0], [0, 0, 3], [0, 0, 0]]), resamples=5)
    labels, predicted = [0] * 4 + [1] * 3, [0] * 4 + [2] * 3
    assert interval == pytest.approx([f1_score(labels, predicted, labels=[0, 1], average="macro", zero_division=0)] * 2)


def test_the_same_seed_gives_the_same_intervals_and_another_does_not() -> None:
    confusion = np.array([[50, 13], [17, 39]])
    intervals = [bootstrap_macro_f1(confusion, seed=seed, resamples=100) for seed in (1, 1, 2)]
    assert (intervals[0] == intervals[1], intervals[0] == intervals[2]) == (True, False)


@pytest.mark.parametrize(
    "confusion", [np.array([[1, 2]]), np.array([[1.0]]), np.array([[-1]]), np.array([[0, 0], [0, 0]])]
)
def test_what_is_no_confusion_is_refused(confusion: NDArray[Any]) -> None:
    sentence = f"confusion is {confusion.dtype} {confusion.shape}; a square table of counts, not all 0, is right"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        bootstrap_macro_f1(confusion)


def test_no_resample_is_refused() -> None:
    with pytest.raises(ValueError, match="^0 resamples; at least 1 is right, 10,000 is usual$"):
        bootstrap_macro_f1(np.array([[1]]), resamples=0)


def test_by_default_it_is_of_10_000_resamples_with_seed_0() -> None:
    confusion = np.array([[8, 2], [3, 7]])
    assert bootstrap_macro_f1(confusion) == bootstrap_macro_f1(confusion, seed=0, resamples=10_000)
    low, high = bootstrap_macro_f1(confusion, resamples=1)
    assert low == high
