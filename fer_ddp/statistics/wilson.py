"""The score interval of a proportion."""

import math

from fer_ddp.statistics.interval import Interval, check_confidence


def wilson_interval(correct: int, total: int, confidence: float = 0.95) -> Interval:
    """The two-sided score interval of a proportion: between which true accuracies `correct` of `total` is unsurprising.

    It treats the samples as independent and the model as given, so it says nothing of what another seed would do.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the
    American Statistical Association 22 (1927), 209-212; method 3 (no continuity correction) of R. G. Newcombe,
    "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17 (1998), 857-872.

    Returns (low, high), with 0 <= low <= correct / total <= high <= 1.

    Raises ValueError unless 0 <= correct <= total, total >= 1 and 0 < confidence < 1.
    """
    if total < 1 or not 0 <= correct <= total:
        raise ValueError(f"{correct} correct of {total} is no proportion; 0 <= correct <= total and total >= 1 is")
    check_confidence(confidence)
    from scipy.stats import binomtest  # 0.8 s to import

    interval = binomtest(correct, total).proportion_ci(confidence_level=confidence, method="wilson")
    return Interval(float(interval.low), float(interval.high))


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
