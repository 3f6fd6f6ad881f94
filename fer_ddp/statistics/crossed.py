"""Seeds and samples as crossed random effects: how far the mean over both may lie from the recipe's own accuracy.

Another seed would give another model and another split other samples, so the recipe's expected accuracy is over the
populations of both. Every seed predicts every sample, hence crossed: correct = mean + seed + sample + residual.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MIN_P_VALUE = 1e-15
"""No smaller p-value is reported: that far out no approximation holds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeanSquares:
    """The two-way analysis of variance, without replication, of a table (seeds, samples)."""

    seeds: int
    samples: int
    seed: float
    """Between seeds; its expectation is residual + samples * seed component."""
    sample: float
    """Between samples; its expectation is residual + seeds * sample component."""
    residual: float
    """The rest; its expectation is the residual component."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VarianceTerm:
    """A part of the variance of a mean, estimated by itself."""

    variance: float
    degrees_of_freedom: float


def mean_squares(table: NDArray[Any]) -> MeanSquares:
    """Analyze truth values or integers (seeds, samples), two or more of each.

    The sums of squares are exact, each times seeds * samples, so that rounding can't make a variance of none.

    Source: R. L. Brennan, "Generalizability Theory" (Springer 2001), the p x i design of chapter 2. For accuracies:
    A. B. Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1 (2007), 386-411, who treats such crossed
    effects and shows why resampling rows and columns overestimates the variance of the mean.
    """
    seeds, samples = table.shape
    integers = table.astype(np.int64)
    total = int(integers.sum())
    squares = seeds * samples * int((integers**2).sum()) - total**2
    of_seeds = seeds * int((integers.sum(axis=1) ** 2).sum()) - total**2
    of_samples = samples * int((integers.sum(axis=0) ** 2).sum()) - total**2
    cells = seeds * samples
    return MeanSquares(
        seeds=seeds,
        samples=samples,
        seed=of_seeds / (cells * (seeds - 1)),
        sample=of_samples / (cells * (samples - 1)),
        residual=(squares - of_seeds - of_samples) / (cells * (seeds - 1) * (samples - 1)),
    )


def variance_terms(of_sample: NDArray[np.floating[Any]], recipes: Sequence[MeanSquares]) -> tuple[VarianceTerm, ...]:
    """The variance of the mean over seeds and samples of one recipe, or of the difference of two: the sum of terms.

    of_sample: (samples,), each sample's mean over the recipe's seeds, or the difference of two such means. recipes:
    those whose seeds vary, if any. For one recipe the sum is seed / S + sample / N + residual / (S N), the variance of
    the grand mean in Brennan (2001): the samples' own term holds the last two.

    Samples are shared by two recipes, so they enter by the variance of the paired difference. Seeds aren't, though
    they may have the same numbers: the variances of the recipes add up, with the degrees of freedom of F. E.
    Satterthwaite, "An approximate distribution of estimates of variance components", Biometrics Bulletin 2 (1946),
    110-114. (Here equal numbers also mean equal orders of the data; should that make two recipes err together, the
    variance is overestimated, never under.)

    A component that comes out negative counts as 0.
    """
    samples = len(of_sample)
    residual = math.fsum(squares.residual / (squares.seeds * samples) for squares in recipes)
    between_samples = float(of_sample.var(ddof=1)) / samples
    terms = [VarianceTerm(variance=max(between_samples, residual), degrees_of_freedom=samples - 1)]
    of_recipes = [max(0.0, squares.seed - squares.residual) / (squares.samples * squares.seeds) for squares in recipes]
    between_seeds = math.fsum(of_recipes)
    if between_seeds > 0:
        squared = math.fsum(
            variance**2 / (squares.seeds - 1) for variance, squares in zip(of_recipes, recipes, strict=True)
        )
        terms.append(VarianceTerm(variance=between_seeds, degrees_of_freedom=between_seeds**2 / squared))
    return tuple(terms)


def total_variance(terms: Sequence[VarianceTerm]) -> float:
    """The sum of the terms."""
    return math.fsum(term.variance for term in terms)


def critical_value(terms: Sequence[VarianceTerm], tail: float) -> float:
    """How many standard errors the mean exceeds its expectation with probability `tail` (0 to 0.5).

    The t quantiles of the terms, each weighted by its share of the variance.

    Source: W. G. Cochran, "Approximate significance levels of the Behrens-Fisher test", Biometrics 20 (1964),
    191-195. One t with Satterthwaite's degrees of freedom for the whole sum covers too little where three seeds differ
    by more than the samples' noise (92 % for 95 %): seeds that happen to agree shrink the variance and raise the
    degrees of freedom at once. Here only the first happens.
    """
    from scipy.special import stdtrit  # 0.2 s to import

    weighted = math.fsum(term.variance * -float(stdtrit(term.degrees_of_freedom, tail)) for term in terms)
    return weighted / total_variance(terms)


def two_sided_p_value(statistic: float, terms: Sequence[VarianceTerm]) -> float:
    """The p-value of a mean that lies `statistic` standard errors from its expectation; `MIN_P_VALUE` or more.

    It solves `critical_value` for twice the tail, so it is below 0.05 where the 95 % interval excludes that.
    """
    from scipy.optimize import brentq

    def excess(log_p: float) -> float:
        return critical_value(terms, math.exp(log_p) / 2) - abs(statistic)

    least = math.log(MIN_P_VALUE)
    if excess(least) <= 0:
        return MIN_P_VALUE
    return math.exp(brentq(excess, least, 0.0, xtol=1e-12))
