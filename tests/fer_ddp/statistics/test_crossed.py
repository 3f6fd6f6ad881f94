"""Seeds and samples crossed: a published table, small populations enumerated, and single terms against scipy."""

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from fer_ddp.statistics.crossed import (
    MIN_P_VALUE,
    MeanSquares,
    VarianceTerm,
    critical_value,
    mean_squares,
    total_variance,
    two_sided_p_value,
    variance_terms,
)

TABLES = [np.array(cells, dtype=np.bool_).reshape(2, 2) for cells in product([0, 1], repeat=4)]
"""All outcomes of two seeds on two samples."""
FIRST_RATES = np.array([[0.9, 0.3], [0.6, 0.2]])
"""How likely a seed of each of two kinds is right on a sample of each of two kinds, the kinds being equally likely."""
SECOND_RATES = np.array([[0.5, 0.4], [0.9, 0.1]])


def test_the_mean_squares_are_those_that_shrout_and_fleiss_published() -> None:
    """P. E. Shrout and J. L. Fleiss, Psychological Bulletin 86 (1979), 420-428: four judges rate six targets."""
    ratings = np.array([[9, 6, 8, 7, 10, 6], [2, 1, 4, 1, 5, 2], [5, 3, 6, 2, 6, 4], [8, 2, 8, 6, 9, 7]])
    squares = mean_squares(ratings)
    assert [round(square, 2) for square in (squares.sample, squares.seed, squares.residual)] == [11.24, 32.49, 1.02]


def chances(rates: NDArray[np.float64]) -> list[tuple[tuple[int, int], list[float]]]:
    """For the kinds of two samples: how likely each of `TABLES` is, over the kinds of the seeds and the outcomes."""
    return [
        (
            samples,
            [
                sum(
                    np.where(table, rates[np.ix_(seeds, samples)], 1 - rates[np.ix_(seeds, samples)]).prod() / 4
                    for seeds in product([0, 1], repeat=2)
                )
                for table in TABLES
            ],
        )
        for samples in product([0, 1], repeat=2)
    ]


def test_the_estimated_variance_of_the_mean_is_right_on_average_over_all_that_can_happen() -> None:
    """Before a negative component is raised to 0, which is the one bias there is."""
    chance = np.mean([weights for _, weights in chances(FIRST_RATES)], axis=0)
    means = np.array([table.mean() for table in TABLES])
    squares = [mean_squares(table) for table in TABLES]
    estimates = np.array([(each.seed + each.sample - each.residual) / 4 for each in squares])
    assert chance @ estimates == pytest.approx(chance @ means**2 - (chance @ means) ** 2, abs=1e-14)


def test_so_is_that_of_the_difference_of_two_recipes() -> None:
    squares = [mean_squares(table) for table in TABLES]
    mean, square, estimate = 0.0, 0.0, 0.0
    for (_, first), (_, second) in zip(chances(FIRST_RATES), chances(SECOND_RATES), strict=True):
        for i, j in product(range(len(TABLES)), repeat=2):
            chance = first[i] * second[j] / 4
            of_sample = TABLES[i].mean(axis=0) - TABLES[j].mean(axis=0)
            seeds = sum((each.seed - each.residual) / 4 for each in (squares[i], squares[j]))
            mean += chance * of_sample.mean()
            square += chance * of_sample.mean() ** 2
            estimate += chance * (of_sample.var(ddof=1) / 2 + seeds)
    assert estimate == pytest.approx(square - mean**2, abs=1e-14)


def test_the_terms_add_up_to_that_estimate() -> None:
    """Where no component is negative."""
    samples = np.arange(40)
    first = np.stack([samples < 35, samples < 20, (samples < 30) | (samples == 39)])
    second = np.stack([samples % 10 < 9, samples % 10 < 5])
    of_sample = first.mean(axis=0) - second.mean(axis=0)
    squares = [mean_squares(first), mean_squares(second)]
    seeds = [(each.seed - each.residual) / (each.seeds * 40) for each in squares]
    assert min(seeds) > 0
    between_samples, between_seeds = variance_terms(of_sample, squares)
    assert between_samples.variance == pytest.approx(of_sample.var(ddof=1) / 40)
    assert between_seeds.variance == pytest.approx(sum(seeds))
    assert (between_samples.degrees_of_freedom, between_seeds.degrees_of_freedom) == pytest.approx(
        (39, sum(seeds) ** 2 / (seeds[0] ** 2 / 2 + seeds[1] ** 2 / 1))
    )


def test_a_negative_component_is_zero() -> None:
    squares = MeanSquares(seeds=2, samples=4, seed=0.1, sample=0.2, residual=0.3)
    (of_samples,) = variance_terms(np.zeros(4), [squares])
    assert of_samples == VarianceTerm(variance=pytest.approx(0.3 / 8), degrees_of_freedom=3)


def test_samples_that_differ_less_than_their_noise_keep_the_noise() -> None:
    """Each sample is right for one seed of two: the samples' means are equal, which is luck."""
    table = np.array([[1, 0, 1, 0], [0, 1, 0, 1]], dtype=np.bool_)
    squares = mean_squares(table)
    (term,) = variance_terms(table.mean(axis=0), [squares])
    assert squares.sample == 0
    assert term == VarianceTerm(variance=squares.residual / 8, degrees_of_freedom=3)


def test_the_critical_value_of_one_term_is_its_t_quantile() -> None:
    value = critical_value([VarianceTerm(variance=0.5, degrees_of_freedom=2.5)], 0.025)
    assert value == pytest.approx(stats.t.isf(0.025, 2.5), rel=1e-9)


def test_quantiles_are_weighted_by_variance() -> None:
    """Of a t table: 4.303 with 2 degrees of freedom, 2.228 with 10."""
    terms = [VarianceTerm(variance=1, degrees_of_freedom=2), VarianceTerm(variance=3, degrees_of_freedom=10)]
    assert critical_value(terms, 0.025) == pytest.approx((4.303 + 3 * 2.228) / 4, abs=5e-4)


@pytest.mark.parametrize("statistic", [2.3, -2.3])
def test_the_p_value_of_one_term_is_that_of_its_t(statistic: float) -> None:
    p_value = two_sided_p_value(statistic, [VarianceTerm(variance=0.5, degrees_of_freedom=4)])
    assert p_value == pytest.approx(2 * stats.t.sf(2.3, 4), rel=1e-9)


def test_the_p_value_of_two_terms_solves_the_critical_value() -> None:
    terms = [VarianceTerm(variance=1, degrees_of_freedom=2), VarianceTerm(variance=3, degrees_of_freedom=100)]
    assert two_sided_p_value(critical_value(terms, 0.01), terms) == pytest.approx(0.02, rel=1e-9)


def test_no_difference_has_a_p_value_of_one() -> None:
    assert two_sided_p_value(0.0, [VarianceTerm(variance=1, degrees_of_freedom=3)]) == 1


def test_no_p_value_is_smaller_than_the_least() -> None:
    assert two_sided_p_value(50.0, [VarianceTerm(variance=1, degrees_of_freedom=3000)]) == MIN_P_VALUE


def test_just_above_the_least_a_p_value_is_its_own() -> None:
    terms = [VarianceTerm(variance=1, degrees_of_freedom=3000)]
    statistic = critical_value(terms, 4 * MIN_P_VALUE / 2)
    assert two_sided_p_value(statistic, terms) == pytest.approx(4 * MIN_P_VALUE, rel=1e-6)


def test_sums_of_squares_are_exact() -> None:
    """Of means that have no exact binary fraction; rounding would leave a residual near 1e-33."""
    row = np.arange(3589) % 10 < 7
    squares = mean_squares(np.stack([row] * 3))
    assert (squares.seed, squares.residual) == (0, 0)
    assert total_variance(variance_terms(np.zeros(3589), [squares])) == 0
