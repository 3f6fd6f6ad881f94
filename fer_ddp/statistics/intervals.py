"""Confidence intervals: Wilson's score interval of a proportion, the bootstrap interval of macro-F1."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Interval(NamedTuple):
    """Two bounds, low <= high; a tuple, so that it unpacks and is a list in JSON."""

    low: float
    high: float


def wilson_interval(correct: int, total: int, confidence: float = 0.95) -> Interval:
    """The two-sided score interval of a proportion: the true accuracies with which `correct` of `total` is compatible.

    It treats the samples as independent and the model as given, so it does not cover other seeds.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the
    American Statistical Association 22 (1927), 209-212; method 3 (no continuity correction) of R. G. Newcombe,
    "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17 (1998), 857-872.

    Returns (low, high), with 0 <= low <= correct / total <= high <= 1.

    Raises ValueError unless 0 <= correct <= total, total >= 1 and 0 < confidence < 1.
    """
    if total < 1 or not 0 <= correct <= total:
        raise ValueError(f"{correct} correct of {total} is not a proportion; 0 <= correct <= total, total >= 1 is")
    check_confidence(confidence)
    from scipy.special import ndtri  # not scipy.stats, which has this interval but takes 0.8 s more to import

    z, share = float(ndtri(0.5 + 0.5 * confidence)), correct / total
    denominator = 2 * (total + z**2)
    centre = (2 * total * share + z**2) / denominator
    half = z / denominator * math.sqrt(4 * total * share * (1 - share) + z**2)
    return Interval(centre - half if correct else 0.0, centre + half if correct < total else 1.0)


def score_interval(share: float, variance: float, critical_value: float) -> Interval:
    """Wilson's interval of a share whose variance was estimated some other way than as share * (1 - share) / total.

    The total becomes the effective one, share * (1 - share) / variance, and the normal quantile `critical_value`. So
    the interval is asymmetric near 0 and 1 and never leaves them.

    Source: of the intervals compared for surveys by C. Franco, R. J. A. Little, T. A. Louis and E. V. Slud,
    "Comparative study of confidence intervals for proportions in complex sample surveys", Journal of Survey
    Statistics and Methodology 7 (2019), 334-364, Wilson's with the effective sample size.

    share in (0, 1); variance > 0; critical_value > 0.
    """
    total = share * (1 - share) / variance
    shrinkage = critical_value**2 / total
    centre = (share + shrinkage / 2) / (1 + shrinkage)
    half = critical_value / (1 + shrinkage) * math.sqrt(variance + shrinkage / (4 * total))
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


def check_confidence(confidence: float) -> None:
    """Raises ValueError unless 0 < confidence < 1."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence} must lie between 0 and 1; 0.95 is usual")


def bootstrap_macro_f1(
    confusion: NDArray[np.integer[Any]], *, seed: int = 0, resamples: int = 10_000, confidence: float = 0.95
) -> Interval:
    """The percentile bootstrap interval of one run's macro-F1, as `classification_metrics` defines it.

    confusion: counts (classes, classes), `confusion[true][predicted]`. The resampling is stratified: each class keeps
    its number of samples, and their predictions are resampled. As only the counts matter, a resample is one multinomial
    draw a class. The same arguments give the same interval.

    A class that is never missed, or always, is so in all resamples: its recall has no spread, and the interval is
    narrower than it should be.

    Source: B. Efron and R. J. Tibshirani, "An Introduction to the Bootstrap" (Chapman & Hall 1993), the percentile
    interval of chapter 13. For an interval of macro-F1 without resampling: K. Takahashi, K. Yamamoto, A. Kuchiba and
    T. Koyama, "Confidence interval for micro-averaged F1 and macro-averaged F1 scores", Applied Intelligence 52 (2022),
    4961-4972.

    Raises ValueError unless `confusion` is a square table of counts, not all 0, resamples >= 1 and 0 < confidence < 1.
    """
    check_confidence(confidence)
    square = confusion.ndim == 2 and confusion.shape[0] == confusion.shape[1]
    if not square or confusion.dtype.kind not in "iu" or confusion.min() < 0 or not confusion.any():
        raise ValueError(
            f"confusion is {confusion.dtype} {confusion.shape}; a square table of counts, not all 0, is right"
        )
    if resamples < 1:
        raise ValueError(f"{resamples} resamples; at least 1 is right, 10,000 is usual")
    generator = np.random.default_rng(seed)
    support = confusion.sum(axis=1)
    present = np.flatnonzero(support)
    predicted = np.zeros((resamples, len(confusion)))
    correct = np.zeros((resamples, len(confusion)))
    for true in present:
        drawn = generator.multinomial(support[true], confusion[true] / support[true], size=resamples)
        predicted += drawn
        correct[:, true] = drawn[:, true]
    f1 = 2 * correct[:, present] / (support[present] + predicted[:, present])
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    return Interval(*np.quantile(f1.mean(axis=1), tails).tolist())
