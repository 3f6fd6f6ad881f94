"""Metrics of a model's probabilities for a split: loss, accuracy, and metrics of each class."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from fer_ddp.errors import RunError
from fer_ddp.statistics.intervals import wilson_interval

# The smallest normal float32. Only a probability that has underflowed is lifted to it, so that the loss is the
# cross-entropy of the logits wherever float32 can tell; one sample costs 87.3 at most, never infinity.
MIN_PROBABILITY = float(np.finfo(np.float32).tiny)


class ValidationMetrics(TypedDict):
    """The metrics of a split that steer training and go into ``metrics.jsonl``."""

    loss: float
    accuracy: float
    macro_f1: float
    balanced_accuracy: float


class ClassificationMetrics(ValidationMetrics):
    """What `classification_metrics` returns, with the meaning of each key."""

    n: int
    accuracy_ci95: list[float]
    per_class: dict[str, dict[str, float]]
    confusion: list[list[int]]


def classification_metrics(
    labels: NDArray[np.integer[Any]], probabilities: NDArray[np.floating[Any]], class_names: Sequence[str]
) -> ClassificationMetrics:
    """Measure the predictions for one split; the result is plain Python, ready for JSON.

    labels: (n,) integers in [0, classes). probabilities: (n, classes) in [0, 1], each row summing to 1.
    The predicted class is the most probable one, the first of them where several tie.

    - `n`: samples; `loss`: mean negative log likelihood in nats, without smoothing or weights, each probability
      lifted to `MIN_PROBABILITY` first.
    - `accuracy` in [0, 1]; `accuracy_ci95`: [low, high], Wilson's interval.
    - `per_class`: by name, in the order of the classes, `precision`, `recall`, `f1` (0 where undefined), `support`
      (samples with that label).
    - `macro_f1`, `balanced_accuracy`: mean F1 and mean recall over the classes **with support**. A class that the
      split lacks has no recall, and counting it as 0 would lower both for every model; predicting it still counts
      as a miss of the true class. With all classes present this is scikit-learn's
      `f1_score(average="macro")` and `balanced_accuracy_score`.
    - `confusion`: counts, `confusion[true][predicted]`.

    Raises RunError where the model or the split is at fault (no sample, a number that is not finite), ValueError where
    the caller is (shapes, labels or probabilities out of range).
    """
    check_predictions(labels, probabilities, class_names)
    classes = len(class_names)
    labels = labels.astype(np.int64)  # a uint8 would overflow below
    predicted = probabilities.argmax(axis=1)
    confusion = np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)
    precision, recall, f1, support = _by_class(confusion)
    return {
        "n": len(labels),
        **validation_metrics(confusion, probabilities[np.arange(len(labels)), labels]),
        "accuracy_ci95": list(wilson_interval(int(confusion.trace()), len(labels))),
        "per_class": {
            name: {
                "precision": float(precision[index]),
                "recall": float(recall[index]),
                "f1": float(f1[index]),
                "support": int(support[index]),
            }
            for index, name in enumerate(class_names)
        },
        "confusion": confusion.tolist(),
    }


def validation_metrics(
    confusion: NDArray[np.integer[Any]], likelihoods: NDArray[np.floating[Any]]
) -> ValidationMetrics:
    """Those of `classification_metrics` that steer training, from what a device can count.

    confusion: counts (classes, classes), ``confusion[true][predicted]``; likelihoods: (n,), the probability that each
    sample's own class was given.
    """
    _, recall, f1, support = _by_class(confusion)
    likelihoods = likelihoods.astype(np.float64)
    return {
        "loss": float(-np.log(np.maximum(likelihoods, MIN_PROBABILITY)).mean()),
        "accuracy": int(confusion.trace()) / len(likelihoods),
        "macro_f1": float(f1[support > 0].mean()),
        "balanced_accuracy": float(recall[support > 0].mean()),
    }


def _by_class(confusion: NDArray[np.integer[Any]]) -> tuple[NDArray[np.float64], ...]:
    """Precision, recall, F1 (0 where undefined) and support, (classes,) each: scikit-learn's without its import."""
    correct, predicted, support = (
        counts.astype(np.float64) for counts in (confusion.diagonal(), confusion.sum(axis=0), confusion.sum(axis=1))
    )
    parts = ((correct, predicted), (correct, support), (2 * correct, predicted + support))
    precision, recall, f1 = (np.divide(part, of, out=np.zeros_like(of), where=of > 0) for part, of in parts)
    return precision, recall, f1, support


def summary_lines(summary: Mapping[str, Any]) -> list[str]:
    """A line for the terminal for each of val and test that a ``summary.json`` has."""
    lines = []
    for split in ("val", "test"):
        if split in summary:
            m = summary[split]
            low, high = m["accuracy_ci95"]
            lines.append(
                f"{split:<4}  accuracy {m['accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f}, {m['n']} images)"
                f"  macro-F1 {m['macro_f1']:.4f}  balanced accuracy {m['balanced_accuracy']:.4f}"
            )
    return lines


def check_predictions(
    labels: NDArray[np.integer[Any]], probabilities: NDArray[np.floating[Any]], class_names: Sequence[str]
) -> None:
    """Check that there is a row of probabilities for each label; raises as `classification_metrics` does."""
    classes = len(class_names)
    if classes == 0 or len(set(class_names)) != classes:
        raise ValueError(f"class names {list(class_names)} must be distinct, and at least one")
    if labels.ndim != 1 or probabilities.shape != (len(labels), classes):
        raise ValueError(
            f"labels {labels.shape} and probabilities {probabilities.shape} must have the shapes (n,) and "
            f"(n, {classes})"
        )
    if labels.dtype.kind not in "iu" or probabilities.dtype.kind != "f":
        raise ValueError(
            f"labels are {labels.dtype} and probabilities {probabilities.dtype}; integers and floats are right"
        )
    if len(labels) == 0:
        raise RunError("the split has no sample, so there is nothing to evaluate; a split needs at least one")
    if labels.min() < 0 or labels.max() >= classes:
        row = int(np.flatnonzero((labels < 0) | (labels >= classes))[0])
        raise ValueError(f"sample {row} has the label {labels[row]}; it must lie in 0 to {classes - 1}")
    finite = np.isfinite(probabilities).all(axis=1)
    if not finite.all():
        raise RunError(
            f"the model's output for sample {int(np.flatnonzero(~finite)[0])} is not a finite number (so for "
            f"{int((~finite).sum())} of {len(labels)} samples): training has diverged; a lower optimizer.lr or "
            "optimizer.gradient_clip_norm may prevent it"
        )
    invalid = invalid_rows(probabilities)
    if len(invalid):
        raise ValueError(
            f"row {invalid[0]} of the probabilities, {probabilities[invalid[0]].tolist()}, is not a distribution; "
            "it must be in 0 to 1 and sum to 1"
        )


def invalid_rows(probabilities: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """The indices of the rows of (n, classes) that hold a negative or non-finite number or don't sum to 1.

    The sum may be off by 1 %, which rounding each probability to bfloat16 cannot exceed; logits and percentages do.
    """
    sums = probabilities.sum(axis=1, dtype=np.float64)
    sound = (probabilities >= 0).all(axis=1) & (np.abs(sums - 1) <= 0.01)  # false for NaN
    return np.flatnonzero(~sound)
