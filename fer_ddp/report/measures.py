"""A recipe's metrics on a split, or on some of its samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_ddp.metrics.calibration import Reliability, apply_temperature, fit_temperature, reliability
from fer_ddp.metrics.classification import classification_metrics
from fer_ddp.runs.predictions import Predictions
from fer_ddp.statistics.intervals import Interval, bootstrap_macro_f1
from fer_ddp.statistics.seeds import SeedsSummary, summarize_seeds

RESAMPLES = 2000
"""Of the bootstrap: its bounds are then uncertain by about 0.05 points, and 50 runs take a few seconds."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A measure over seeds."""

    values: tuple[float, ...]
    """A seed each."""

    @property
    def mean(self) -> float:
        """Over seeds."""
        return float(np.mean(self.values))

    @property
    def low(self) -> float:
        """The lowest seed."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The highest seed."""
        return max(self.values)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassFigures:
    """A class's metrics."""

    name: str
    support: int
    """Samples with that label."""
    precision: Spread
    recall: Spread
    f1: Spread


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """What the probabilities are worth."""

    loss: Spread
    brier: Spread
    error: Spread
    """Expected calibration error."""
    reliability: Reliability
    """Of all runs' predictions together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitFigures:
    """A recipe on a split."""

    accuracy: SeedsSummary
    macro_f1: Spread
    macro_f1_interval: Interval
    """The mean of the runs' bootstrap intervals: it covers other samples, not other seeds."""
    balanced_accuracy: Spread
    calibration: Calibration | None
    """None where only the predicted classes are known."""
    confusion: NDArray[np.int64]
    """(classes, classes), `confusion[true][predicted]`, counts over all runs."""
    classes: tuple[ClassFigures, ...]


def measure(predictions: Sequence[Predictions], mask: NDArray[np.bool_]) -> SplitFigures:
    """Measure a recipe's runs (a `Predictions` each) on the samples that ``mask`` (samples,) selects; two at least."""
    kept = [(each.labels[mask], each.probabilities[mask]) for each in predictions]
    class_names = predictions[0].class_names
    metrics = [classification_metrics(labels, probabilities, class_names) for labels, probabilities in kept]
    confusions = [np.array(each["confusion"]) for each in metrics]
    intervals = [bootstrap_macro_f1(each, resamples=RESAMPLES) for each in confusions]
    return SplitFigures(
        accuracy=summarize_seeds(np.stack([(each.predicted == each.labels)[mask] for each in predictions])),
        macro_f1=_spread(metrics, "macro_f1"),
        macro_f1_interval=Interval(*np.mean(intervals, axis=0).tolist()),
        balanced_accuracy=_spread(metrics, "balanced_accuracy"),
        calibration=None if any(each.labels_only for each in predictions) else _calibration(metrics, kept),
        confusion=np.sum(confusions, axis=0),
        classes=tuple(
            ClassFigures(
                name=name,
                support=int(metrics[0]["per_class"][name]["support"]),
                **{kind: _spread([each["per_class"][name] for each in metrics], kind) for kind in _OF_A_CLASS},
            )
            for name in class_names
        ),
    )


def _calibration(
    metrics: Sequence[Mapping[str, Any]], kept: Sequence[tuple[NDArray[np.int64], NDArray[np.floating[Any]]]]
) -> Calibration:
    """Of each run's metrics and (labels, probabilities)."""
    return Calibration(
        loss=_spread(metrics, "loss"),
        brier=Spread(tuple(_brier_score(*each) for each in kept)),
        error=Spread(tuple(reliability(*each).expected_calibration_error for each in kept)),
        reliability=reliability(
            np.concatenate([labels for labels, _ in kept]),
            np.concatenate([probabilities for _, probabilities in kept]),
        ),
    )


_OF_A_CLASS = ("precision", "recall", "f1")


def _brier_score(labels: NDArray[np.integer[Any]], probabilities: NDArray[np.floating[Any]]) -> float:
    """The mean squared distance from the one-hot labels, in [0, 2] (Brier 1950)."""
    distances = probabilities - np.eye(probabilities.shape[1])[labels]
    return float((distances**2).sum(axis=1).mean())


def _spread(metrics: Sequence[Mapping[str, Any]], key: str) -> Spread:
    return Spread(tuple(float(each[key]) for each in metrics))


@dataclass(frozen=True, kw_only=True, slots=True)
class Tempered:
    """A recipe's calibration on test once a temperature, fitted on val a run, has softened its predictions."""

    temperature: Spread
    calibration_error: Spread


def temper(val: Sequence[Predictions], test: Sequence[Predictions], masks: dict[str, NDArray[np.bool_]]) -> Tempered:
    """``val``, ``test``: a `Predictions` each run; ``masks``: by split, (samples,), those that count."""
    temperatures = tuple(fit_temperature(run.labels[masks["val"]], run.probabilities[masks["val"]]) for run in val)
    errors = tuple(
        reliability(
            run.labels[masks["test"]], apply_temperature(run.probabilities[masks["test"]], temperature)
        ).expected_calibration_error
        for run, temperature in zip(test, temperatures, strict=True)
    )
    return Tempered(temperature=Spread(temperatures), calibration_error=Spread(errors))
