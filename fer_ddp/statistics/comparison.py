"""Which of two recipes is better, measured on the same samples."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fer_ddp.statistics.crossed import (
    critical_value,
    mean_squares,
    total_variance,
    two_sided_p_value,
    variance_terms,
)
from fer_ddp.statistics.intervals import Interval, check_confidence
from fer_ddp.statistics.seeds import check_correct

CROSSED = "seeds and samples crossed"
ONE_GIVEN = "seeds and samples crossed, the recipe with one run taken as given"
ONE_PAIR = "exact McNemar, both runs taken as given"
"""The values of `Comparison.method`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """The difference of two accuracies: the first minus the second."""

    difference: float
    """In [-1, 1]."""
    interval: Interval
    """Of the expected difference; `method` states over what it is expected."""
    p_value: float
    """Two-sided, of no difference; not corrected for other comparisons, see `holm`."""
    method: str
    """`CROSSED`, `ONE_GIVEN` or `ONE_PAIR`. A run that is taken as given represents itself, not its recipe: another
    seed might differ."""


def compare_recipes(first: NDArray[np.bool_], second: NDArray[np.bool_], confidence: float = 0.95) -> Comparison:
    """Compare the accuracies of two recipes on the same samples.

    first, second: bool (seeds, samples), whether a seed's prediction for a sample is correct. The samples are the same
    in the same order; the numbers of seeds may differ, and equal seeds of two recipes are not paired.

    - Several seeds: interval and p-value of the difference over the populations of seeds and samples, see
      `fer_ddp.statistics.crossed`; the samples are paired, the seeds of the two recipes independent.
    - One run against several seeds: the same, but nothing is known of how far the one recipe's seeds differ, so its run
      is taken as given. As a statement on recipes the interval is too narrow (89 % for 95 % in the simulation).
    - One run each, or seeds that all predict alike: `mcnemar_p_value` and `paired_interval`. That test
      is exact and the interval is not, so where the p-value is close to 1 - confidence the two may disagree.

    Raises ValueError unless both are such tables of the same samples, and 0 < confidence < 1.
    """
    check_correct(first)
    check_correct(second)
    check_confidence(confidence)
    samples = first.shape[1]
    if second.shape[1] != samples:
        raise ValueError(f"{samples} samples in the first and {second.shape[1]} in the second; the same are right")
    of_sample = first.mean(axis=0) - second.mean(axis=0)
    difference = float(first.mean() - second.mean())
    terms = variance_terms(of_sample, [mean_squares(table) for table in (first, second) if len(table) > 1])
    variance = total_variance(terms)
    # Without any variance all seeds of a recipe agree on every sample, so each represents all.
    if len(first) == len(second) == 1 or variance == 0:
        only_first = int((first[0] & ~second[0]).sum())
        only_second = int((second[0] & ~first[0]).sum())
        interval = paired_interval(only_first, only_second, samples, confidence)
        p_value = mcnemar_p_value(only_first, only_second)
        method = ONE_PAIR
    else:
        half = critical_value(terms, (1 - confidence) / 2) * math.sqrt(variance)
        interval = Interval(max(-1.0, difference - half), min(1.0, difference + half))
        p_value = two_sided_p_value(difference / math.sqrt(variance), terms)
        method = CROSSED if min(len(first), len(second)) > 1 else ONE_GIVEN
    return Comparison(
        difference=difference,
        interval=interval,
        p_value=p_value,
        method=method,
    )


def mcnemar_p_value(only_first: int, only_second: int) -> float:
    """The exact two-sided p-value of equal accuracies, from the samples on which just one model is correct.

    Given how many those are, each falls to either side with probability 1/2.

    Source: Q. McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12 (1947), 153-157; in the exact form, with the binomial distribution for the normal.

    Raises ValueError for a negative count.
    """
    if min(only_first, only_second) < 0:
        raise ValueError(f"{only_first} and {only_second} are counts of samples; 0 or more is right")
    if only_first + only_second == 0:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(only_first, only_first + only_second).pvalue)


def paired_interval(only_first: int, only_second: int, samples: int, confidence: float = 0.95) -> Interval:
    """The score interval of the difference of two accuracies on the same samples, the models as given.

    only_first, only_second: samples on which just that model is correct. The interval holds the differences that the
    score test would not reject; at 0 that is McNemar's test with the normal distribution.

    Source: T. Tango, "Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design", Statistics in Medicine 17 (1998), 891-908; recommended by M. W. Fagerland, S. Lydersen and
    P. Laake, "Recommended tests and confidence intervals for paired binomial proportions", Statistics in Medicine 33
    (2014), 2850-2875.

    Raises ValueError unless the counts are 0 or more, their sum `samples` or less, and 0 < confidence < 1.
    """
    if min(only_first, only_second) < 0 or only_first + only_second > samples or samples < 1:
        raise ValueError(
            f"{only_first} and {only_second} of {samples} samples: counts of 0 or more with a sum of at most the "
            "samples, of which there is one at least, are right"
        )
    check_confidence(confidence)
    from scipy.optimize import brentq
    from scipy.special import ndtri

    z = float(ndtri((1 + confidence) / 2))
    difference = (only_first - only_second) / samples

    def excess(delta: float) -> float:
        """The squared distance of the estimate from `delta`, less the maximum that the test allows."""
        b = (2 * samples - only_first + only_second) * delta - only_first - only_second
        c = -only_second * delta * (1 - delta)
        second_alone = (math.sqrt(max(0.0, b * b - 8 * samples * c)) - b) / (4 * samples)  # its likeliest share
        return samples * (difference - delta) ** 2 - z * z * max(0.0, 2 * second_alone + delta * (1 - delta))

    # At the estimate itself the excess may be 0, without being a bound: where no sample tells the models apart.
    low = -1.0 if difference == -1 else brentq(excess, -1.0, difference - 1e-9, xtol=1e-12)
    high = 1.0 if difference == 1 else brentq(excess, difference + 1e-9, 1.0, xtol=1e-12)
    return Interval(float(low), float(high))


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
