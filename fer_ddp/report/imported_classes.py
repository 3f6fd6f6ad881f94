"""The classes of imported predictions: names in any spelling and order become those of the data set."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fer_ddp.errors import JobError, RunError
from fer_ddp.metrics.classification import invalid_rows
from shards.labels import class_meaning, did_you_mean

LABELS_ONLY = "the file holds labels alone, so loss and calibration are not measured"


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassesOfFile:
    """What the user says of the classes of a file or model."""

    order: tuple[str, ...] = ()
    """The names that the numbers 0, 1, 2 ... or the outputs of a model mean."""
    merge: tuple[str, ...] = ()
    """``contempt=neutral``: its probability is added to that of a class of the data."""
    drop: tuple[str, ...] = ()
    """Classes whose probability is left out; the others are divided by their sum."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundPredictions:
    """What a file holds for the samples of a data set."""

    probabilities: dict[str, NDArray[np.float64]]
    """By split, (samples, classes), in the order of the data's samples and classes."""
    labels_only: bool
    assumptions: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassNames:
    """Which class of the data each name of a file means."""

    of_data: tuple[str, ...]
    options: ClassesOfFile
    source: str
    """The file, for messages."""
    _known: dict[str, int | None] = field(default_factory=dict, repr=False)
    """Of names that were asked for before: a file has a row for each of many samples."""

    def __post_init__(self) -> None:
        for text in self.options.merge:
            name, _, target = text.partition("=")
            if not name.strip() or self._of_data(target) is None:
                raise JobError(
                    f"--merge {text}: should be a class of {self.source} and the class of the data that it becomes, "
                    f"such as contempt={self.of_data[-1]}"
                )

    def index(self, name: str) -> int | None:
        """The class of the data that ``name`` means; -1 if it is dropped, None if it is none."""
        if name not in self._known:
            self._known[name] = self._index(name)
        return self._known[name]

    def _index(self, name: str) -> int | None:
        for text in self.options.merge:
            source, _, target = text.partition("=")
            if class_meaning(source) == class_meaning(name):
                return self._of_data(target)
        if any(class_meaning(name) == class_meaning(dropped) for dropped in self.options.drop):
            return -1
        return self._of_data(name)

    def unknown(self, name: str) -> str:
        """What is wrong with a name that `index` does not know, and what to do."""
        return (
            f"{name} is not a class of the data ({', '.join(self.of_data)}){did_you_mean(name.lower(), self.of_data)}; "
            f"add it to another class with --merge {name}={self.of_data[-1]}, or leave it out with "
            f"--drop-classes {name}"
        )

    def _of_data(self, name: str) -> int | None:
        meanings = [class_meaning(each) for each in self.of_data]
        return meanings.index(class_meaning(name)) if class_meaning(name) in meanings else None

    def in_order_of_data(
        self, values: NDArray[np.float64], names: Sequence[str], places: Sequence[str], *, logits: bool
    ) -> NDArray[np.float64]:
        """Probabilities (n, classes of the data) of ``values`` (n, names): probabilities, or logits.

        places: n, where each row is, for messages. Raises RunError for a name that is not a class, for a class of the
        data without a name, and for rows that are not finite or, unless logits, do not sum to 1.
        """
        indices = []
        for name in names:
            index = self.index(name)
            if index is None:
                raise RunError(f"{self.source}: {self.unknown(name)}")
            indices.append(index)
        absent = [each for index, each in enumerate(self.of_data) if index not in indices]
        if absent:
            raise RunError(
                f"{self.source}: has no probability of {', '.join(absent)}; if it does not know the class, add a "
                "column of zeros"
            )
        broken = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(broken):
            raise RunError(f"{self.source}: {places[broken[0]]} holds a number that is not finite")
        if logits:
            from scipy.special import softmax

            values = softmax(values, axis=1)
        invalid = invalid_rows(values)
        if len(invalid):
            shown = ", ".join(f"{value:g}" for value in values[invalid[0]])
            raise RunError(
                f"{self.source}: {places[invalid[0]]} holds {shown}, which are not probabilities: they must be in 0 to "
                "1 and sum to 1; add --logits if they are logits"
            )
        probabilities = np.zeros((len(values), len(self.of_data)))
        for column, index in enumerate(indices):
            if index >= 0:
                probabilities[:, index] += values[:, column]
        if -1 in indices:
            sums = probabilities.sum(axis=1, keepdims=True)
            empty = np.flatnonzero(sums[:, 0] <= 0)
            if len(empty):
                raise RunError(
                    f"{self.source}: {places[empty[0]]} gives all its probability to a class of --drop-classes"
                )
            probabilities /= sums
        return probabilities
