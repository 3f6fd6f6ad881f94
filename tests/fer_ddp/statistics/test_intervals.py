"""Wilson's interval against published examples and its own formula."""

import math
import re

import pytest
from scipy.stats import binomtest

from fer_ddp.statistics.intervals import score_interval, wilson_interval


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_is_the_one_newcombe_published(correct: int, total: int, low: float, high: float) -> None:
    """R. G. Newcombe, Statistics in Medicine 17 (1998), 857-872, table I, method 3."""
    assert tuple(round(bound, 4) for bound in wilson_interval(correct, total)) == (low, high)


def test_the_interval_is_wilsons_closed_form_to_ten_digits() -> None:
    correct, total, z = 2353, 3589, 1.959963984540054
    share = correct / total
    centre = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    assert wilson_interval(correct, total) == pytest.approx((centre - half, centre + half), abs=1e-10)


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_interval_is_scipys_to_the_bit(confidence: float) -> None:
    """Summaries written before are written again with the same bytes."""
    for correct, total in [(0, 2), (2, 2), (5, 7), (11, 70), (44, 178), (2353, 3589), (3588, 3589)]:
        expected = binomtest(correct, total).proportion_ci(confidence_level=confidence, method="wilson")
        assert wilson_interval(correct, total, confidence) == (expected.low, expected.high)


def test_a_higher_confidence_gives_its_own_quantile() -> None:
    """At 50 of 100 the half-width is z / (2 sqrt(100 + z^2)), here with the 99.5 % quantile of the normal."""
    half = 2.5758293035489004 / (2 * math.sqrt(100 + 2.5758293035489004**2))
    assert wilson_interval(50, 100, confidence=0.99) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-10)


def test_one_sample_alone_has_an_interval() -> None:
    z_squared = 1.959963984540054**2
    assert wilson_interval(0, 1) == pytest.approx((0, z_squared / (1 + z_squared)))


def test_all_correct_reaches_one_and_no_further() -> None:
    assert wilson_interval(20, 20)[1] == 1.0


@pytest.mark.parametrize(("correct", "total"), [(0, 0), (-1, 5), (6, 5)])
def test_what_is_no_proportion_is_refused(correct: int, total: int) -> None:
    sentence = f"{correct} correct of {total} is not a proportion; 0 <= correct <= total, total >= 1 is"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        wilson_interval(correct, total)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_a_confidence_that_is_no_probability_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match=f"^confidence {confidence} must lie between 0 and 1; 0.95 is usual$"):
        wilson_interval(1, 2, confidence)


def test_with_the_variance_of_independent_samples_the_score_interval_is_wilsons() -> None:
    share, total, z = 0.85, 40, 1.959963984540054
    interval = score_interval(share, share * (1 - share) / total, z)
    assert interval == pytest.approx(wilson_interval(34, 40), abs=1e-12)


def test_at_a_bound_the_share_is_the_critical_value_away() -> None:
    """In standard errors at the bound: the variance goes as p * (1 - p)."""
    share, variance, t = 0.97, 0.0004, 4.3
    scale = variance / (share * (1 - share))
    distances = [
        (share - bound) / math.sqrt(scale * bound * (1 - bound)) for bound in score_interval(share, variance, t)
    ]
    assert distances == pytest.approx([t, -t], rel=1e-9)
