"""Two recipes: published paired tables, sums of binomials, and cases in which scipy's t tests say the same."""

import re
from math import comb

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from fer_ddp.statistics.comparison import compare_recipes, mcnemar_p_value, paired_interval


def random_table(seeds: int, samples: int, accuracy: float, seed: int) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).random((seeds, samples)) < accuracy


@pytest.mark.parametrize(
    ("first", "second", "samples", "p_value", "low", "high"),
    [(6, 16, 161, 0.0525, -0.124, -0.005), (1, 7, 21, 0.0703, -0.517, -0.026)],
)
def test_p_value_and_interval_are_those_that_fagerland_published(
    first: int, second: int, samples: int, p_value: float, low: float, high: float
) -> None:
    """M. W. Fagerland, S. Lydersen and P. Laake, "Statistical Analysis of Contingency Tables" (2017), chapter 8."""
    assert round(mcnemar_p_value(first, second), 4) == p_value
    assert tuple(round(bound, 3) for bound in paired_interval(first, second, samples)) == (low, high)


def test_mcnemars_p_value_is_the_sum_of_binomials() -> None:
    tail = sum(comb(23, count) for count in range(8)) / 2**23
    assert mcnemar_p_value(7, 16) == pytest.approx(2 * tail, rel=1e-12)


def test_models_that_are_right_on_the_same_samples_do_not_differ() -> None:
    assert mcnemar_p_value(0, 0) == 1


def test_without_a_sample_that_tells_the_models_apart_the_interval_is_not_empty() -> None:
    """(difference)^2 * n = z^2 * difference * (1 - difference) at the bound."""
    bound = 1.959963984540054**2 / (100 + 1.959963984540054**2)
    assert paired_interval(0, 0, 100) == pytest.approx((-bound, bound), abs=1e-9)


def test_a_model_that_is_always_right_against_one_that_never_is() -> None:
    low, high = paired_interval(50, 0, 50)
    assert (low > 0.8, high) == (True, 1.0)
    assert paired_interval(0, 50, 50) == pytest.approx((-1.0, -low))


def test_one_sample_alone_has_an_interval() -> None:
    assert paired_interval(1, 0, 1).high == 1


def test_the_interval_excludes_zero_where_mcnemars_normal_test_rejects() -> None:
    """At the confidence at which it just does, a bound is 0."""
    p_value = stats.chi2.sf((30 - 14) ** 2 / (30 + 14), 1)
    assert paired_interval(30, 14, 500, confidence=1 - p_value).low == pytest.approx(0, abs=1e-9)


def test_swapping_the_models_swaps_the_bounds() -> None:
    low, high = paired_interval(30, 14, 500)
    assert paired_interval(14, 30, 500) == pytest.approx((-high, -low), abs=1e-9)


def test_one_run_each_is_mcnemars_case() -> None:
    first = np.array([[1, 1, 1, 1, 1, 0, 0, 1]], dtype=np.bool_)
    second = np.array([[1, 0, 0, 0, 1, 0, 1, 1]], dtype=np.bool_)
    comparison = compare_recipes(first, second)
    assert comparison.difference == 0.25
    assert (comparison.p_value, comparison.interval) == (mcnemar_p_value(3, 1), paired_interval(3, 1, 8))
    assert comparison.method == "exact McNemar, both runs taken as given"
    assert compare_recipes(first, second, confidence=0.5).interval == paired_interval(3, 1, 8, confidence=0.5)


def test_seeds_that_agree_on_every_sample_leave_the_paired_t_test() -> None:
    first, second = random_table(1, 400, 0.7, seed=1), random_table(1, 400, 0.65, seed=2)
    comparison = compare_recipes(np.repeat(first, 3, axis=0), np.repeat(second, 2, axis=0))
    expected = stats.ttest_rel(first[0].astype(float), second[0].astype(float))
    assert comparison.p_value == pytest.approx(expected.pvalue, rel=1e-8)
    assert comparison.interval == pytest.approx(expected.confidence_interval(), abs=1e-12)
    assert comparison.method == "seeds and samples crossed"


def test_samples_that_tell_nothing_leave_welchs_t_test_over_independent_seeds() -> None:
    """Each seed is right everywhere or nowhere."""
    first, second = [1, 1, 0, 1], [0, 1]
    tables = [np.repeat(np.array(seeds, dtype=np.bool_)[:, None], 30, axis=1) for seeds in (first, second)]
    comparison = compare_recipes(tables[0], tables[1], confidence=0.5)
    expected = stats.ttest_ind(first, second, equal_var=False)
    assert comparison.p_value == pytest.approx(expected.pvalue, rel=1e-8)
    assert comparison.interval == pytest.approx(expected.confidence_interval(0.5), abs=1e-12)


def test_a_recipe_with_one_run_has_no_seeds_to_vary() -> None:
    first, second = random_table(1, 400, 0.7, seed=1), random_table(1, 400, 0.65, seed=2)
    comparison = compare_recipes(first, np.repeat(second, 4, axis=0))
    expected = stats.ttest_rel(first[0].astype(float), second[0].astype(float))
    assert comparison.p_value == pytest.approx(expected.pvalue, rel=1e-8)
    assert comparison.method == "seeds and samples crossed, the recipe with one run taken as given"


def test_the_interval_just_excludes_zero_at_the_confidence_of_the_p_value() -> None:
    first, second = random_table(3, 300, 0.7, seed=3), random_table(4, 300, 0.65, seed=4)
    p_value = compare_recipes(first, second).p_value
    low, _ = compare_recipes(first, second, confidence=1 - p_value).interval
    assert low == pytest.approx(0, abs=1e-9)


def test_swapping_the_recipes_swaps_the_signs() -> None:
    first, second = random_table(3, 300, 0.7, seed=3), random_table(4, 300, 0.65, seed=4)
    forth, back = compare_recipes(first, second), compare_recipes(second, first)
    assert back.difference == -forth.difference
    assert back.p_value == pytest.approx(forth.p_value, rel=1e-9)
    assert back.interval == pytest.approx((-forth.interval.high, -forth.interval.low), abs=1e-12)


def test_recipes_that_answer_alike_are_one_pair_of_runs() -> None:
    row = random_table(1, 100, 0.7, seed=5)
    comparison = compare_recipes(np.repeat(row, 3, axis=0), np.repeat(row, 3, axis=0))
    assert (comparison.p_value, comparison.interval) == (1, paired_interval(0, 0, 100))
    assert comparison.method == "exact McNemar, both runs taken as given"


def test_no_bound_is_beyond_one() -> None:
    """Two samples and one of them always wrong: the t quantile is 12.7."""
    first, second = np.ones((2, 2), dtype=np.bool_), np.array([[0, 1], [0, 1]], dtype=np.bool_)
    assert compare_recipes(first, second).interval == (-1, 1)


def test_recipes_on_other_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="^5 samples in the first and 4 in the second; the same are right$"):
        compare_recipes(random_table(2, 5, 0.5, seed=0), random_table(2, 4, 0.5, seed=0))


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(ValueError, match="^-1 and 3 are counts of samples; 0 or more is right$"):
        mcnemar_p_value(-1, 3)


@pytest.mark.parametrize(("first", "second", "samples"), [(-1, 2, 5), (3, 3, 5), (0, 0, 0)])
def test_counts_that_do_not_fit_the_samples_are_refused(first: int, second: int, samples: int) -> None:
    message = (
        f"{first} and {second} of {samples} samples: counts of 0 or more with a sum of at most the samples, of which "
        "there is one at least, are right"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        paired_interval(first, second, samples)
