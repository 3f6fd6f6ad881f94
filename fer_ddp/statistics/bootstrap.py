"""How sure the measures are that count every class alike."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_ddp.statistics.interval import Interval, check_confidence


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassMeanIntervals:
    """Percentile intervals of one run's measures, the model as given."""

    macro_f1: Interval
    balanced_accuracy: Interval
    confidence: float
    resamples: int


def bootstrap_class_means(
    confusion: NDArray[np.integer[Any]], *, seed: int = 0, resamples: int = 10_000, confidence: float = 0.95
) -> ClassMeanIntervals:
    """Bootstrap the macro-F1 and the balanced accuracy, as `classification_metrics` defines them.

    confusion: counts (classes, classes), `confusion[true][predicted]`. The resampling is stratified: each class keeps
    its number of samples, and what they are taken for is drawn anew. As only the counts matter, a resample is one
    multinomial draw a class. The same arguments give the same intervals.

    A class without a single error is without error in all resamples, so its recall is taken as certain.

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
    right = np.zeros((resamples, len(confusion)))
    for true in present:
        drawn = generator.multinomial(support[true], confusion[true] / support[true], size=resamples)
        predicted += drawn
        right[:, true] = drawn[:, true]
    recall = right[:, present] / support[present]
    f1 = 2 * right[:, present] / (support[present] + predicted[:, present])
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    return ClassMeanIntervals(
        macro_f1=Interval(*np.quantile(f1.mean(axis=1), tails).tolist()),
        balanced_accuracy=Interval(*np.quantile(recall.mean(axis=1), tails).tolist()),
        confidence=confidence,
        resamples=resamples,
    )
