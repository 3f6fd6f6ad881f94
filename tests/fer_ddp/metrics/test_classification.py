"""The measures of a split: small cases by hand, larger ones against scikit-learn's own averages."""

import json
import math
import re
import warnings

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import (
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    log_loss,
    precision_recall_fscore_support,
)

from fer_ddp.errors import RunError
from fer_ddp.metrics.classification import MIN_PROBABILITY, classification_metrics
from fer_ddp.statistics.intervals import wilson_interval

NAMES = ("cat", "dog", "owl")


def one_hot(predicted: list[int], classes: int = 3) -> NDArray[np.float64]:
    """Probabilities that say `predicted`, each with 0.8 and the rest shared."""
    probabilities = np.full((len(predicted), classes), 0.2 / (classes - 1))
    probabilities[np.arange(len(predicted)), predicted] = 0.8
    return probabilities


def random_predictions(samples: int, classes: int, seed: int = 7) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, samples)
    return labels, generator.dirichlet(np.ones(classes), samples).astype(np.float32)


def test_a_case_by_hand_gives_every_measure() -> None:
    """True cat cat dog dog dog owl owl, said cat dog dog dog dog owl cat."""
    measured = classification_metrics(np.array([0, 0, 1, 1, 1, 2, 2]), one_hot([0, 1, 1, 1, 1, 2, 0]), NAMES)
    assert measured == {
        "n": 7,
        "loss": pytest.approx(-(5 * math.log(0.8) + 2 * math.log(0.1)) / 7, abs=1e-15),
        "accuracy": 5 / 7,
        "accuracy_ci95": list(wilson_interval(5, 7)),
        "macro_f1": pytest.approx((1 / 2 + 6 / 7 + 2 / 3) / 3, abs=1e-15),
        "balanced_accuracy": pytest.approx((1 / 2 + 1 + 1 / 2) / 3, abs=1e-15),
        "per_class": {
            "cat": {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2},
            "dog": {"precision": 0.75, "recall": 1.0, "f1": pytest.approx(6 / 7, abs=1e-15), "support": 3},
            "owl": {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3, abs=1e-15), "support": 2},
        },
        "confusion": [[1, 1, 0], [0, 3, 0], [1, 0, 1]],
    }


def test_with_all_classes_present_the_measures_are_scikit_learns() -> None:
    labels, probabilities = random_predictions(500, 7)
    exact, predicted = probabilities.astype(np.float64), probabilities.argmax(axis=1)
    measured = classification_metrics(labels, probabilities, list("abcdefg"))
    assert [measured[key] for key in ("loss", "macro_f1", "balanced_accuracy")] == pytest.approx(
        [
            log_loss(labels, exact / exact.sum(axis=1, keepdims=True)),
            f1_score(labels, predicted, average="macro"),
            balanced_accuracy_score(labels, predicted),
        ],
        abs=1e-7,
    )
    assert measured["confusion"] == confusion_matrix(labels, predicted).tolist()


def test_the_metrics_of_a_class_are_scikit_learns_to_the_bit() -> None:
    for seed in range(20):
        labels, probabilities = random_predictions(40, 3, seed)
        predicted = probabilities.argmax(axis=1)
        expected = precision_recall_fscore_support(labels, predicted, labels=range(3), average=None, zero_division=0)
        measured = classification_metrics(labels, probabilities, NAMES)["per_class"].values()
        assert [list(each.values()) for each in measured] == np.stack(expected, axis=1).tolist()


def test_a_class_absent_from_the_split_does_not_enter_the_means() -> None:
    """Two cats and a dog, one cat called an owl, of which there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measured = classification_metrics(np.array([0, 0, 1]), one_hot([0, 2, 1]), NAMES)
    assert (measured["macro_f1"], measured["balanced_accuracy"]) == (pytest.approx((2 / 3 + 1) / 2), (0.5 + 1) / 2)
    assert measured["per_class"]["owl"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}


def test_a_class_that_is_never_predicted_counts_as_zero() -> None:
    measured = classification_metrics(np.array([0, 1]), one_hot([0, 0]), NAMES)
    assert measured["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)


def test_a_split_of_one_class_is_measured_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measured = classification_metrics(np.array([1, 1]), one_hot([1, 1]), NAMES)
    assert (measured["macro_f1"], measured["confusion"]) == (1.0, [[0, 0, 0], [0, 2, 0], [0, 0, 0]])


def test_where_probabilities_tie_the_first_class_is_predicted() -> None:
    measured = classification_metrics(np.array([1]), np.array([[0.2, 0.4, 0.4]]), NAMES)
    assert measured["confusion"] == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_a_probability_of_zero_costs_a_finite_loss() -> None:
    measured = classification_metrics(np.array([0]), np.array([[0.0, 1.0, 0.0]], dtype=np.float32), NAMES)
    assert measured["loss"] == -math.log(MIN_PROBABILITY)


def test_a_small_probability_is_not_lifted() -> None:
    measured = classification_metrics(np.array([0]), np.array([[1e-30, 1.0, 0.0]]), NAMES)
    assert measured["loss"] == pytest.approx(30 * math.log(10))


def test_narrow_labels_do_not_overflow() -> None:
    names = [f"class {index}" for index in range(100)]
    labels = np.array([99, 3], dtype=np.uint8)
    confusion = np.array(classification_metrics(labels, one_hot([99, 98], 100), names)["confusion"])
    assert np.argwhere(confusion).tolist() == [[3, 98], [99, 99]]


def test_the_measures_go_through_json_unchanged() -> None:
    labels, probabilities = random_predictions(50, 3)
    measured = classification_metrics(labels, probabilities, NAMES)
    assert json.loads(json.dumps(measured)) == measured


def test_an_empty_split_is_refused() -> None:
    sentence = "the split has no sample, so there is nothing to evaluate; a split needs at least one"
    with pytest.raises(RunError, match=f"^{re.escape(sentence)}$"):
        classification_metrics(np.array([], dtype=np.int64), np.zeros((0, 3)), NAMES)


def test_a_diverged_model_is_named_with_its_first_sample() -> None:
    probabilities = one_hot([0, 1, 2])
    probabilities[1:] = np.nan
    sentence = (
        "the model's output for sample 1 is not a finite number (so for 2 of 3 samples): training has diverged; "
        "a lower optimizer.lr or optimizer.gradient_clip_norm may prevent it"
    )
    with pytest.raises(RunError, match=f"^{re.escape(sentence)}$"):
        classification_metrics(np.array([0, 1, 2]), probabilities, NAMES)


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_outside_the_classes_is_refused_with_its_sample(label: int) -> None:
    with pytest.raises(ValueError, match=f"^sample 1 has the label {label}; it must lie in 0 to 2$"):
        classification_metrics(np.array([0, label]), one_hot([0, 0]), NAMES)


def test_logits_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^row 1 of the probabilities, \[2.0, 1.0, 0.5\], is not a distribution; "):
        classification_metrics(np.array([0, 0]), np.array([[0.5, 0.5, 0.0], [2.0, 1.0, 0.5]]), NAMES)


def test_a_negative_probability_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^row 0 of the probabilities, \[1.5, -0.5, 0.0\], is not a distribution; "):
        classification_metrics(np.array([0]), np.array([[1.5, -0.5, 0.0]]), NAMES)


def test_shapes_that_do_not_agree_are_refused() -> None:
    sentence = "labels (2,) and probabilities (1, 3) must have the shapes (n,) and (n, 3)"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        classification_metrics(np.array([0, 1]), one_hot([0]), NAMES)


def test_labels_that_are_floats_are_refused() -> None:
    with pytest.raises(
        ValueError, match="^labels are float64 and probabilities float64; integers and floats are right$"
    ):
        classification_metrics(np.array([0.0]), one_hot([0]), NAMES)  # type: ignore[arg-type]


def test_class_names_that_repeat_are_refused() -> None:
    with pytest.raises(ValueError, match="must be distinct, and at least one$"):
        classification_metrics(np.array([0]), one_hot([0]), ("cat", "cat", "owl"))
