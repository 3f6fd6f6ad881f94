"""Calibration: small cases by hand, a slow twin, and temperatures that have a closed form."""

import math
import re

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.metrics import log_loss

from fer_ddp.metrics.calibration import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    apply_temperature,
    fit_temperature,
    reliability,
)
from fer_ddp.metrics.classification import MIN_PROBABILITY


def random_predictions(samples: int, classes: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    generator = np.random.default_rng(3)
    return generator.integers(0, classes, samples), generator.dirichlet(np.ones(classes), samples)


def two_classes(confidences: list[float]) -> NDArray[np.float64]:
    """Class 0 is predicted, with these confidences."""
    return np.array([[confidence, 1 - confidence] for confidence in confidences])


def test_a_case_by_hand_has_its_bins_and_its_error() -> None:
    """Of four bins the upper two are filled: 0.6 and 0.7, one of them right; 0.8, 0.9 and 1.0, two of them right."""
    diagram = reliability(np.array([0, 1, 1, 0, 0]), two_classes([0.6, 0.7, 0.8, 0.9, 1.0]), bins=4)
    assert diagram.edges.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert diagram.counts.tolist() == [0, 0, 2, 3]
    assert diagram.confidence.tolist() == pytest.approx([math.nan, math.nan, 0.65, 0.9], nan_ok=True)
    assert diagram.accuracy.tolist() == pytest.approx([math.nan, math.nan, 1 / 2, 2 / 3], nan_ok=True)
    assert diagram.expected_calibration_error == pytest.approx((2 * 0.15 + 3 * (0.9 - 2 / 3)) / 5)


def test_the_error_is_that_of_a_loop_over_the_bins() -> None:
    labels, probabilities = random_predictions(500, 7)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    error = 0.0
    for index in range(15):
        inside = (confidence > index / 15) & (confidence <= (index + 1) / 15)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert reliability(labels, probabilities).expected_calibration_error == pytest.approx(error, abs=1e-12)


def test_a_confidence_at_an_edge_is_in_the_lower_bin() -> None:
    assert reliability(np.array([0]), two_classes([0.75]), bins=4).counts.tolist() == [0, 0, 1, 0]


def test_a_model_that_is_right_as_often_as_it_says_has_no_error() -> None:
    diagram = reliability(np.array([0, 0, 0, 1]), two_classes([0.75] * 4))
    assert diagram.expected_calibration_error == 0


def test_no_bin_is_refused() -> None:
    with pytest.raises(ValueError, match="^0 bins; at least 1 is right, 15 is usual$"):
        reliability(np.array([0]), two_classes([0.75]), bins=0)


def test_the_temperature_divides_the_logits() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (20, 7))
    warmed = apply_temperature(softmax(logits, axis=1), 2.5)
    assert np.abs(warmed - softmax(logits / 2.5, axis=1)).max() < 1e-14


def test_a_probability_of_zero_stays_finite() -> None:
    warmed = apply_temperature(np.array([[0.0, 1.0]], dtype=np.float32), 2.0)
    assert warmed[0, 0] == pytest.approx(math.sqrt(MIN_PROBABILITY))


def test_the_temperature_makes_confidence_accuracy_where_all_are_equally_sure() -> None:
    """At 0.9 confidence and 0.7 accuracy: the logit of 0.9 over that of 0.7."""
    labels = np.array([0] * 7 + [1] * 3)
    expected = math.log(0.9 / 0.1) / math.log(0.7 / 0.3)
    assert fit_temperature(labels, two_classes([0.9] * 10)) == pytest.approx(expected, rel=1e-6)


def test_no_temperature_of_a_grid_has_a_lower_loss() -> None:
    labels, probabilities = random_predictions(200, 7)
    labels[:120] = probabilities[:120].argmax(axis=1)
    best = fit_temperature(labels, probabilities)
    grid = np.geomspace(MIN_TEMPERATURE, MAX_TEMPERATURE, 60)
    losses = [log_loss(labels, apply_temperature(probabilities, temperature)) for temperature in grid]
    assert log_loss(labels, apply_temperature(probabilities, best)) < min(losses)


@pytest.mark.parametrize(("label", "bound"), [(0, MIN_TEMPERATURE), (1, MAX_TEMPERATURE)])
def test_a_model_that_is_always_right_or_always_wrong_has_a_temperature_at_a_bound(label: int, bound: float) -> None:
    assert fit_temperature(np.array([label] * 3), two_classes([0.6, 0.7, 0.8])) == pytest.approx(bound, rel=1e-6)


def test_logits_are_refused() -> None:
    sentence = "row 0 of the probabilities, [3.0, -2.0], is not a distribution; it must be in 0 to 1 and sum to 1"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        fit_temperature(np.array([0]), np.array([[3.0, -2.0]]))
