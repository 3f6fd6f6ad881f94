"""Whether a model's confidence matches its accuracy, and temperature scaling, which improves that."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_ddp.metrics.classification import MIN_PROBABILITY, check_predictions

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
"""The bounds of `fit_temperature`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reliability:
    """The data of a reliability diagram: samples in bins of equal width by confidence, the highest probability."""

    edges: NDArray[np.float64]
    """(bins + 1,), 0 to 1; a bin holds its upper edge, not its lower."""
    counts: NDArray[np.int64]
    """(bins,), samples."""
    confidence: NDArray[np.float64]
    """(bins,), mean confidence of the bin's samples; NaN in an empty bin."""
    accuracy: NDArray[np.float64]
    """(bins,), the accuracy of the bin's samples; NaN in an empty bin."""

    @property
    def expected_calibration_error(self) -> float:
        """The mean over the samples of their bin's |accuracy - confidence|, in [0, 1]."""
        filled = self.counts > 0
        gaps = np.abs(self.accuracy[filled] - self.confidence[filled])
        return float((gaps * self.counts[filled]).sum() / self.counts.sum())


def reliability(
    labels: NDArray[np.integer[Any]], probabilities: NDArray[np.floating[Any]], bins: int = 15
) -> Reliability:
    """Compare confidence with accuracy.

    labels: (n,), in [0, classes). probabilities: (n, classes), rows summing to 1.

    With few samples the error is biased upwards, since each bin's accuracy is off by chance.

    Source: C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On calibration of modern neural networks", ICML 2017,
    section 2; 15 bins as in their table 1.

    Raises what `classification_metrics` raises, and ValueError unless bins >= 1.
    """
    _check(labels, probabilities)
    if bins < 1:
        raise ValueError(f"{bins} bins; at least 1 is right, 15 is usual")
    edges = np.linspace(0, 1, bins + 1)
    confidence = probabilities.max(axis=1).astype(np.float64)
    indices = np.searchsorted(edges[1:-1], confidence, side="left")
    counts = np.bincount(indices, minlength=bins)
    with np.errstate(invalid="ignore"):  # 0 / 0 in an empty bin
        return Reliability(
            edges=edges,
            counts=counts,
            confidence=np.bincount(indices, confidence, minlength=bins) / counts,
            accuracy=np.bincount(indices, probabilities.argmax(axis=1) == labels, minlength=bins) / counts,
        )


def apply_temperature(probabilities: NDArray[np.floating[Any]], temperature: float) -> NDArray[np.float64]:
    """Soften (temperature > 1) or sharpen (< 1): the softmax of the logits divided by `temperature`.

    Log-probabilities are logits up to a constant a sample, which the softmax takes out again; so this is exact, except
    that a probability that has underflowed is lifted to `MIN_PROBABILITY` first. The order of the classes stays, and
    so does the accuracy. (n, classes) to (n, classes).
    """
    from scipy.special import softmax

    return np.asarray(softmax(_log(probabilities) / temperature, axis=1))


def fit_temperature(labels: NDArray[np.integer[Any]], probabilities: NDArray[np.floating[Any]]) -> float:
    """The temperature for `apply_temperature` with which the negative log likelihood is least.

    Fit it on val and apply it to test. If every prediction is correct, or the labels are unrelated to the
    probabilities, there is no optimum and the result is a bound, `MIN_TEMPERATURE` or `MAX_TEMPERATURE`.

    Source: Guo et al. 2017 (see `reliability`), section 4.2. The likelihood is concave in 1 / temperature, so there
    is one optimum.
    """
    _check(labels, probabilities)
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    logits = _log(probabilities)
    of_label = logits[np.arange(len(labels)), labels].mean()

    def loss(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        return float(logsumexp(scale * logits, axis=1).mean() - scale * of_label)

    bounds = (np.log(MIN_TEMPERATURE), np.log(MAX_TEMPERATURE))
    best = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-8})
    return float(np.exp(best.x))


def _log(probabilities: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    return np.log(np.maximum(probabilities.astype(np.float64), MIN_PROBABILITY))


def _check(labels: NDArray[np.integer[Any]], probabilities: NDArray[np.floating[Any]]) -> None:
    check_predictions(labels, probabilities, [str(index) for index in range(probabilities.shape[-1])])
