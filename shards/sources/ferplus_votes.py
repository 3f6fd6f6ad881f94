"""FER+ votes (``fer2013new.csv``): ten annotators' votes on each of FER2013's images, in the order of its CSV.

Barsoum et al., "Training deep networks for facial expression recognition with crowd-sourced label distribution", 2016.
"""

import csv
import io
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path

import numpy as np

from shards.errors import DataError
from shards.files import SMALL, read_regular
from shards.labels import FER2013, FER2013_CLASSES
from shards.sources.scan import Source, SourceScan
from shards.splits import USAGES
from shards.votes import CATEGORIES, votes_text

_AGREEMENT = {
    "angry": 0.47,
    "disgust": 0.30,
    "fear": 0.12,
    "happy": 0.92,
    "sad": 0.40,
    "surprise": 0.80,
    "neutral": 0.86,
}
"""The share of each label's rows whose most frequent vote is the label: in Training and PublicTest, 62 % of all rows.

Joined to rows in another order, the votes agree with the labels by chance, in 18 % of all rows.
"""
_FEWEST = 50
"""The share of fewer rows can be low by chance alone."""
_BLOCK = 500
"""Rows are also checked in blocks of so many: one row too many in the middle shifts only those behind it."""
_MOST_COLUMNS = 1000
_CLEAR = 0.3
"""Rows of one or two labels agree by chance nearly as often as they should; then the share shows nothing."""


def scan_with_votes(
    source: Source, path: Path, give_labels: bool, work: Path, pool: Executor, workers: int
) -> SourceScan:
    """The scan of ``source``, FER2013's CSV, with the votes of the file ``path``, which may also give the labels."""
    return replace(join_votes(source(work, pool, workers), path), is_labelled_by_votes=give_labels)


def join_votes(scan: SourceScan, path: Path) -> SourceScan:
    """``scan``, of FER2013's CSV, with each row's votes from the same row of the file ``path``.

    A row without an image name has no votes: its image was removed from FER+. Raises :class:`DataError` if the file
    is not FER+'s, not for this CSV, or its votes agree with the labels as little as those of other images would.
    """
    import pandas

    if not path.is_file():
        raise DataError(f"{path}: there is no such file; it should be FER+'s fer2013new.csv", exit_status=2)
    try:
        content = read_regular(path, at_most=SMALL)
        _check_width(content)
        votes = pandas.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); it should be FER+'s fer2013new.csv") from error
    except (ValueError, csv.Error, pandas.errors.ParserError) as error:
        raise DataError(
            f"{path}: is not a CSV that can be read ({error}); it should be FER+'s fer2013new.csv"
        ) from error
    missing = [name for name in ("Usage", "Image name", *CATEGORIES) if name not in votes.columns]
    if missing:
        raise DataError(f"{path}: has no column {missing[0]}; it should be FER+'s fer2013new.csv")
    rows = scan.table.location.to_numpy()
    if len(rows) and rows.max() >= len(votes):
        raise DataError(f"{path}: has {len(votes)} rows and the CSV has row {rows.max() + 1}; both should be whole")
    chosen = votes.iloc[rows]
    numbers = chosen[list(CATEGORIES)].apply(pandas.to_numeric, errors="coerce")
    wrong = (numbers.isna() | (numbers < 0) | (numbers % 1 != 0)).any(axis=1).to_numpy()
    if wrong.any():
        raise DataError(f"{path}: row {rows[wrong][0] + 1} has a vote that is not a whole number of 0 or more")
    other = chosen.Usage.map(USAGES).to_numpy() != scan.table.split.astype(str).to_numpy()
    if other.any():
        here, there = chosen.Usage.to_numpy()[other][0], scan.table.split.to_numpy()[other][0]
        raise DataError(
            f"{path}: row {rows[other][0] + 1} is of {here}, and of {there} in the CSV; "
            f"the two files should have the same rows in the same order"
        )
    counts = numbers.astype(int).to_numpy().tolist()
    named = (chosen["Image name"].str.strip() != "").tolist()
    _check_agreement(path, np.array(counts)[named], scan.table.label.to_numpy()[named], rows[named] + 1)
    texts = [
        votes_text(dict(zip(CATEGORIES, row, strict=True))) if has_votes else None
        for row, has_votes in zip(counts, named, strict=True)
    ]
    return replace(scan, votes=texts)


def _check_width(content: bytes) -> None:
    """Raise ValueError for a header of so many columns that pandas, whose time grows with their square, never ends."""
    header = next(csv.reader(io.StringIO(content.decode("utf-8-sig", "replace"), newline="")), [])
    if len(header) > _MOST_COLUMNS:
        raise ValueError(f"it has {len(header):,} columns")


def _check_agreement(path: Path, counts: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> None:
    """Raise :class:`DataError` if the votes are those of other rows than the labels, all of them or a block.

    ``counts`` is int64 (rows, categories), ``labels`` int64 (rows,), and ``rows`` has the rows' numbers.
    """
    if len(rows) < _FEWEST:
        return
    order = {name: label for label, name in enumerate(FER2013_CLASSES)}
    label_of = np.array([order.get(FER2013.class_of(name) or "", len(order)) for name in CATEGORIES])
    majorities, expected = label_of[counts.argmax(axis=1)], np.array([_AGREEMENT[name] for name in order])[labels]
    blocks = np.array_split(np.arange(len(rows)), max(1, len(rows) // _BLOCK))
    for block in (np.arange(len(rows)), *blocks):
        found = float((majorities[block] == labels[block]).mean())
        right = float(expected[block].mean())
        frequencies = [np.bincount(of[block], minlength=len(order) + 1) / len(block) for of in (labels, majorities)]
        by_chance = float(frequencies[0] @ frequencies[1])
        if right - by_chance > _CLEAR and found < (right + by_chance) / 2:
            raise DataError(
                f"{path}: in rows {rows[block[0]]} to {rows[block[-1]]} the most frequent vote is the CSV's label in "
                f"{100 * found:.0f} % of the rows; FER+'s votes on the same images should agree in about "
                f"{100 * right:.0f} %, and those on other images in {100 * by_chance:.0f} %; "
                f"the two files should have the same rows in the same order"
            )
