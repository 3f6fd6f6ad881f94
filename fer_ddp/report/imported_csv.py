"""Predictions in a CSV: a row a sample, with a column of each class's probability, or of the predicted class."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_ddp.errors import RunError
from fer_ddp.report.imported_classes import ClassesOfFile, ClassNames, FoundPredictions
from fer_ddp.text import plural, shortened
from shards.files import read_regular
from shards.labels import is_expression, whole_number
from shards.sources.sample_keys import path_keys, row_key
from shards.splits import split_of_word

_KEYS = ("key", "sample_key", "sample", "id")
_ROWS = {"row": 1, "index": 0, "unnamed: 0": 0, "": 0}
"""Columns that hold the number of a sample's row in the source CSV, and what the first row is called."""
_PATHS = ("path", "file", "filename", "file_name", "image", "image_path", "img", "img_path")
_SPLITS = ("split", "usage", "subset")
_PREDICTED = ("predicted", "prediction", "predicted_class", "predicted_label", "pred", "y_pred")
_TRUE = ("label", "true", "true_label", "target", "y_true", "ground_truth", "emotion", "class")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Columns:
    """Which column holds what."""

    name: int
    """What names the sample."""
    kind: str
    """``key``, ``row`` or ``path``."""
    first_row: int
    split: int | None
    predicted: int | None
    true: int | None
    classes: tuple[tuple[int, str], ...]
    """(column, name of the class)."""
    ignored: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Row:
    """A row for one of the samples."""

    place: str
    cells: list[str]
    split: str
    sample: int


def read_csv(
    path: Path,
    keys: Mapping[str, Sequence[str]],
    labels: Mapping[str, NDArray[np.int64]],
    class_names: tuple[str, ...],
    options: ClassesOfFile,
    logits: bool,
) -> FoundPredictions:
    """The predictions in ``path`` for the samples ``keys``, whose labels are ``labels``, both by split.

    A header names the columns, in any order: ``key``; or ``row`` (of the source CSV, from 1) or ``index`` (from 0); or
    ``path`` or ``file``. A column for each class (``happy`` or ``p_happy``, in any spelling), or ``predicted`` with a
    class's name, or both. Optional: the true class as ``label``, which must be the data's, and ``split``, by which rows
    of other splits are left out. Raises RunError, naming the line and the sample, for what is absent, doubled, unknown
    or no distribution.
    """
    rows, header = _rows(path)
    classes = ClassNames(of_data=class_names, options=options, source=str(path))
    columns = _columns(path, header, classes)
    found, left_out = _matched(path, rows, columns, keys)
    for row in found:
        _check_true_label(path, row, columns, classes, labels)
    splits = {split: [row for row in found if row.split == split] for split in keys}
    probabilities = {split: _probabilities(path, each, columns, classes, logits) for split, each in splits.items()}
    for split, each in splits.items():
        probabilities[split] = probabilities[split][np.argsort([row.sample for row in each])]
    assumptions = [f"samples are matched by the column {header[columns.name] or 'without a name'}"]
    if columns.kind == "row":
        assumptions[0] += f", the row of the source CSV counted from {columns.first_row}"
    if columns.classes:
        what = "logits, of which the softmax is taken" if logits else "probabilities"
        assumptions.append(f"the columns {', '.join(header[column] for column, _ in columns.classes)} are {what}")
    assumptions += [f"left out: {plural(left_out, 'row')} of other splits"] if left_out else []
    assumptions += [f"ignored: the columns {', '.join(columns.ignored)}"] if columns.ignored else []
    return FoundPredictions(
        probabilities=probabilities, labels_only=not columns.classes, assumptions=tuple(assumptions)
    )


def _rows(path: Path) -> tuple[list[tuple[int, list[str]]], list[str]]:
    """The rows that are not empty, with their lines, and the header."""
    try:
        text = read_regular(path, at_most=1 << 31).decode("utf-8-sig")
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RunError(
            f"{path}: byte {error.start} is not UTF-8; predictions are a UTF-8 CSV, or a model .onnx"
        ) from error
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise RunError(f"{path}: line {reader.line_num} is not CSV: {error}") from error
    if len(rows) < 2:
        raise RunError(f"{path}: holds no prediction; at least one line must follow the header")
    header = [cell.strip() for cell in rows[0][1]]
    for line, row in rows[1:]:
        if len(row) != len(header):
            raise RunError(f"{path}: line {line} has {plural(len(row), 'field')}; the header has {len(header)}")
    return rows[1:], header


def _columns(path: Path, header: list[str], classes: ClassNames) -> _Columns:
    """What each column holds. Raises RunError if the samples are not named, or there is nothing to measure."""
    names = [name.lower() for name in header]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise RunError(f"{path}: has two columns {repeated}; each needs a name of its own")

    def first_of(known: Sequence[str]) -> int | None:
        return next((names.index(name) for name in known if name in names), None)

    kinds = {"key": _KEYS, "path": _PATHS, "row": tuple(_ROWS)}
    naming = {kind: column for kind, known in kinds.items() if (column := first_of(known)) is not None}
    if not naming:
        raise RunError(
            f"{path}: has the columns {', '.join(header)}; one must name the sample: key, as in the data; row, its "
            "number in the source CSV from 1 (index: from 0); or path"
        )
    kind, name = next(iter(naming.items()))
    split, predicted, true = map(first_of, (_SPLITS, _PREDICTED, _TRUE))
    of_classes, ignored = list[tuple[int, str]](), list[str]()
    for column, text in enumerate(header):
        if column in (*naming.values(), split, predicted, true):
            continue
        plain = _named(text[2:] if text.lower().startswith("p_") else text, classes.options)
        if classes.index(plain) is not None or is_expression(plain) or plain != text:
            of_classes.append((column, plain))
        else:
            ignored.append(text)
    if not of_classes and predicted is None:
        if true is not None:
            raise RunError(
                f"{path}: has a column {header[true]}, which is taken as the true class, and no predictions; call the "
                "column predicted if it holds them"
            )
        raise RunError(
            f"{path}: has the columns {', '.join(header)}; a column for each class ({', '.join(classes.of_data)}) with "
            "its probability is needed, or one called predicted with the name of a class"
        )
    return _Columns(
        name=name,
        kind=kind,
        first_row=_ROWS.get(names[name], 1),
        split=split,
        predicted=predicted,
        true=true,
        classes=tuple(of_classes),
        ignored=tuple(ignored),
    )


def _named(text: str, options: ClassesOfFile) -> str:
    """The name that a number means by ``--classes``; other text as it is."""
    number = whole_number(text)
    if number is None or not 0 <= number < len(options.order):
        return text
    return options.order[number]


def _matched(
    path: Path, rows: list[tuple[int, list[str]]], columns: _Columns, keys: Mapping[str, Sequence[str]]
) -> tuple[list[_Row], int]:
    """Each sample's row, and how many rows of other splits there are. Raises RunError if one lacks, or has two."""
    places = {split: {key: place for place, key in enumerate(of_split)} for split, of_split in keys.items()}
    found = list[_Row]()
    lines: dict[tuple[str, int], str] = {}
    left_out = 0
    for line, cells in rows:
        name = cells[columns.name].strip()
        place = f"line {line} ({shortened(name, 80)})"
        among = list(places)
        if columns.split is not None:
            split = split_of_word(cells[columns.split])
            if split is None:
                raise RunError(f"{path}: {place} has the split {cells[columns.split]!r}; train, val or test is right")
            if split not in places:
                left_out += 1
                continue
            among = [split]
        candidates = _keys(name, columns)
        hits = [(split, places[split][key]) for key in candidates for split in among if key in places[split]][:2]
        if not hits:
            example = next(iter(places[among[0]]))
            raise RunError(f"{path}: {place} is not a sample of {' or '.join(among)}; their keys are such as {example}")
        if len({split for split, _ in hits}) > 1:
            raise RunError(f"{path}: {place} is a sample of {hits[0][0]} and of {hits[1][0]}; add a column split")
        if hits[0] in lines:
            raise RunError(f"{path}: {place} is the sample of {lines[hits[0]]} again; each sample has one row")
        lines[hits[0]] = place
        found.append(_Row(place=place, cells=cells, split=hits[0][0], sample=hits[0][1]))
    for split, of_split in keys.items():
        absent = [key for place, key in enumerate(of_split) if (split, place) not in lines]
        if len(absent) == len(of_split) and len(keys) > 1:
            other = " ".join(f"--split {each}" for each in keys if each != split)
            raise RunError(f"{path}: has no row for any sample of {split}; add {other} to import the other alone")
        if absent:
            raise RunError(
                f"{path}: has no row for {plural(len(absent), 'sample')} of the {len(of_split):,} of {split}, the "
                f"first is {absent[0]}; every sample needs a prediction"
            )
    return found, left_out


def _keys(name: str, columns: _Columns) -> list[str]:
    """The keys that a sample of this name may have, the likeliest first."""
    if columns.kind == "key":
        return [name]
    if columns.kind == "row":
        number = whole_number(name)
        return [] if number is None else [row_key(number + 1 - columns.first_row)]
    parts = name.replace("\\", "/").split("/")
    tails = ["/".join(parts[start:]) for start in range(len(parts))]
    return [name, *(key for tail in tails for key in path_keys([tail]) + path_keys([f"{tail}."]))]


def _check_true_label(
    path: Path, row: _Row, columns: _Columns, classes: ClassNames, labels: Mapping[str, NDArray[np.int64]]
) -> None:
    """Raises RunError if the row states another true class than the data."""
    if columns.true is None:
        return
    text = _named(row.cells[columns.true].strip(), classes.options)
    expected = classes.of_data[labels[row.split][row.sample]]
    if whole_number(text) is None and classes.index(text) != labels[row.split][row.sample]:
        raise RunError(f"{path}: {row.place} has the true class {text}, the data have {expected}: these are other data")


def _probabilities(
    path: Path, rows: list[_Row], columns: _Columns, classes: ClassNames, logits: bool
) -> NDArray[np.float64]:
    """(rows, classes), in the order of ``rows``; 1 for the predicted class where there are labels alone."""
    predicted = None
    if columns.predicted is not None:
        predicted = np.array([_predicted(path, row, row.cells[columns.predicted].strip(), classes) for row in rows])
    if not columns.classes:
        return np.eye(len(classes.of_data))[predicted]
    values = np.empty((len(rows), len(columns.classes)))
    for number, row in enumerate(rows):
        for place, (column, name) in enumerate(columns.classes):
            try:
                values[number, place] = float(row.cells[column])
            except ValueError:
                raise RunError(
                    f"{path}: {row.place} has {row.cells[column]!r} for {name}, which is no number"
                ) from None
    names, places = [name for _, name in columns.classes], [row.place for row in rows]
    probabilities = classes.in_order_of_data(values, names, places, logits=logits)
    if predicted is not None:
        chosen = probabilities[np.arange(len(rows)), predicted]
        wrong = np.flatnonzero(chosen < probabilities.max(axis=1))  # where several tie, any of them is right
        if len(wrong):
            row, best = rows[wrong[0]], classes.of_data[int(probabilities[wrong[0]].argmax())]
            raise RunError(
                f"{path}: {row.place} predicts {classes.of_data[predicted[wrong[0]]]}, and its highest probability is "
                f"that of {best}; leave out one of the two"
            )
    return probabilities


def _predicted(path: Path, row: _Row, text: str, classes: ClassNames) -> int:
    name = _named(text, classes.options)
    if whole_number(name) is not None:
        raise RunError(
            f"{path}: {row.place} predicts {name}, a number; name the classes that 0, 1, 2 ... mean: "
            f"--classes {','.join(classes.of_data)} or another order"
        )
    index = classes.index(name)
    if index is None or index < 0:
        raise RunError(f"{path}: {row.place} predicts {name}; {classes.unknown(name)}")
    return index
