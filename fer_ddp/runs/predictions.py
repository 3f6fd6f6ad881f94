"""A run's predictions for a split, as a CSV that any tool reads: `key,label,predicted,p_CLASS,...`.

Imported predictions that are labels alone have the first three columns only.
"""

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_ddp.errors import RunError
from fer_ddp.metrics.classification import check_predictions, invalid_rows
from shards.files import atomic_write_bytes, read_regular

_FIXED_COLUMNS = ["key", "label", "predicted"]
_PROBABILITY_PREFIX = "p_"


@dataclass(frozen=True, kw_only=True, slots=True)
class Predictions:
    """The predictions for n samples, in the split's order."""

    keys: tuple[str, ...]
    """Each sample's key in its shard, n of them."""
    labels: NDArray[np.int64]
    """(n,), in [0, classes)."""
    probabilities: NDArray[np.float32] | NDArray[np.float64]
    """(n, classes), in [0, 1], rows summing to 1; float32 if a float32 run wrote them, else float64."""
    class_names: tuple[str, ...]
    """The classes in the order of the columns."""
    labels_only: bool = False
    """Whether only the predicted classes are known; ``probabilities`` are then 1 for these and 0 for the others."""

    @property
    def predicted(self) -> NDArray[np.int64]:
        """(n,): the most probable class, the first of them where several tie."""
        return np.asarray(self.probabilities.argmax(axis=1), dtype=np.int64)


def write_predictions(
    path: Path,
    keys: Sequence[str],
    labels: NDArray[np.integer[Any]],
    probabilities: NDArray[np.floating[Any]],
    class_names: Sequence[str],
    *,
    labels_only: bool = False,
) -> str:
    """Write the predictions for one split; the same predictions give the same bytes. Returns the file's SHA-256.

    keys: n texts. labels: (n,) integers. probabilities: (n, classes) float32 or float64, each written as the shortest
    text that reads back to the same number of that precision (narrower floats are widened to float32 first). Labels
    and predictions are written as class names. The file is whole or absent: written beside, then renamed.
    labels_only: write the predicted classes without probabilities.

    Raises RunError where the file cannot be written, and what `classification_metrics` raises.
    """
    check_predictions(labels, probabilities, class_names)
    if len(keys) != len(labels):
        raise ValueError(f"{len(keys)} keys for {len(labels)} labels: each sample needs one")
    if probabilities.dtype.itemsize < 4:
        probabilities = probabilities.astype(np.float32)
    names = np.array(class_names, dtype=object)
    predicted = names[probabilities.argmax(axis=1)]
    shown = [] if labels_only else class_names
    numbers = probabilities[:, : len(shown)].astype(str).tolist()
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_FIXED_COLUMNS, *(_PROBABILITY_PREFIX + name for name in shown)])
    writer.writerows(
        [key, label, guess, *row]
        for key, label, guess, row in zip(keys, names[labels], predicted, numbers, strict=True)
    )
    content = text.getvalue().encode("utf-8")
    try:
        path.parent.mkdir(exist_ok=True)
        atomic_write_bytes(path, content)
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror}") from error
    return hashlib.sha256(content).hexdigest()


_LARGEST = 1 << 31
"""Bytes of a CSV of predictions: tens of millions of images."""


def read_predictions(
    path: Path, *, as_float64: bool = False, class_names: Sequence[str] = (), sha256: str | None = None
) -> Predictions:
    """Read what `write_predictions` wrote, the same numbers in the same precision.

    The precision is not in the file: numbers that are all the shortest text of a float32 are taken as float32.
    as_float64: the numbers as written, in half the time. class_names: the classes of a file without probabilities.
    sha256: what `write_predictions` returned, where it is known.

    Raises RunError, naming the file and the line, where it is absent, cut short or not such a table.
    """
    try:
        content = read_regular(path, at_most=_LARGEST)
        text = content.decode("utf-8")
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RunError(f"{path}: byte {error.start} is not UTF-8; predictions are a UTF-8 CSV") from error
    if not text.endswith("\n"):
        raise RunError(f"{path}: the last line does not end, so the file was cut short; `evaluate` writes it again")
    if sha256 not in (None, hashlib.sha256(content).hexdigest()):
        raise RunError(f"{path}: is not what was written with summary.json; `evaluate` writes both again")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header, *rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise RunError(f"{path}: line {reader.line_num} is not CSV: {error}") from error

    columns = header[1]
    named = tuple(column.removeprefix(_PROBABILITY_PREFIX) for column in columns[len(_FIXED_COLUMNS) :])
    expected = [*_FIXED_COLUMNS, *(_PROBABILITY_PREFIX + name for name in named)]
    if not (named or class_names) or columns != expected or len(set(named)) != len(named):
        raise RunError(
            f"{path}: the columns are {','.join(columns)}; key,label,predicted and then one p_CLASS for each class, "
            "all different, are expected"
        )
    if not rows:
        raise RunError(f"{path}: holds no prediction; at least one line must follow the header")
    return _parse(path, rows, named or tuple(class_names), as_float64, labels_only=not named)


def _parse(
    path: Path, rows: list[tuple[int, list[str]]], class_names: tuple[str, ...], as_float64: bool, labels_only: bool
) -> Predictions:
    """Turn numbered lines into arrays. Raises RunError naming the wrong line."""
    indices = {name: index for index, name in enumerate(class_names)}
    first_number = len(_FIXED_COLUMNS)
    fields = first_number + (0 if labels_only else len(class_names))
    labels, predicted, numbers = [], [], []
    for line, row in rows:
        if len(row) != fields:
            raise RunError(f"{path}: line {line} has {len(row)} fields; {fields} are expected, as in the header")
        for name in row[1:first_number]:
            if name not in indices:
                raise RunError(
                    f"{path}: line {line} names the class {name!r}; {', '.join(class_names)} are the classes"
                )
        try:
            numbers.append([float(number) for number in row[first_number:]])
        except ValueError as error:
            raise RunError(f"{path}: line {line}: {error}; a probability is a number in 0 to 1") from error
        labels.append(indices[row[1]])
        predicted.append(indices[row[2]])

    probabilities: NDArray[np.float32] | NDArray[np.float64]
    probabilities = np.eye(len(class_names))[predicted] if labels_only else np.array(numbers)
    if not as_float64 and not labels_only:
        narrow = probabilities.astype(np.float32)
        if narrow.astype(str).tolist() == [row[first_number:] for _, row in rows]:
            probabilities = narrow
    predictions = Predictions(
        keys=tuple(row[0] for _, row in rows),
        labels=np.array(labels, dtype=np.int64),
        probabilities=probabilities,
        class_names=class_names,
        labels_only=labels_only,
    )
    invalid = invalid_rows(probabilities)
    if len(invalid):
        line, row = rows[invalid[0]]
        raise RunError(
            f"{path}: line {line}: the probabilities {', '.join(row[first_number:])} are not a distribution; "
            "they must be in 0 to 1 and sum to 1"
        )
    disagreeing = np.flatnonzero(predictions.predicted != predicted)
    if len(disagreeing):
        line, row = rows[disagreeing[0]]
        raise RunError(
            f"{path}: line {line} has the prediction {row[2]!r}, but its highest probability is that of "
            f"{class_names[predictions.predicted[disagreeing[0]]]!r}"
        )
    return predictions
