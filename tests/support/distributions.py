"""Whether random numbers follow a distribution."""

from typing import Any

from scipy import stats
from torch import Tensor

IMPLAUSIBLE = 1e-4
"""A p-value below this is no accident; the seeds are fixed, so a test passes always or never."""


def assert_distributed(numbers: Tensor, distribution: Any) -> None:
    """By mean, variance and the whole distribution (a frozen one of scipy)."""
    count, variance = len(numbers), distribution.var()
    z_mean = (float(numbers.mean()) - distribution.mean()) / (variance / count) ** 0.5
    # The variance of a sample's variance, from the kurtosis.
    z_variance = (float(numbers.var()) / variance - 1) / ((2 + float(distribution.stats(moments="k"))) / count) ** 0.5
    p_values = {
        "mean": 2 * stats.norm.sf(abs(z_mean)),
        "variance": 2 * stats.norm.sf(abs(z_variance)),
        "distribution": stats.kstest(numbers.numpy(), distribution.cdf).pvalue,
    }
    assert min(p_values.values()) > IMPLAUSIBLE, p_values
