"""How sure a figure is."""


def wilson_interval(correct: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
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
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence} must lie between 0 and 1; 0.95 is usual")
    from scipy.stats import binomtest  # 0.8 s to import

    interval = binomtest(correct, total).proportion_ci(confidence_level=confidence, method="wilson")
    return float(interval.low), float(interval.high)
