"""FER+ votes (``fer2013new.csv``): ten annotators' votes on each of FER2013's images, in the order of its CSV.

Barsoum et al., "Training deep networks for facial expression recognition with crowd-sourced label distribution", 2016.
"""

import json
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path

from shards.errors import DataError
from shards.labels import USAGES
from shards.sources.scan import Source, SourceScan

CATEGORIES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")
"""The columns of votes, in their order."""


def scan_with_votes(source: Source, path: Path, work: Path, pool: Executor, workers: int) -> SourceScan:
    """The scan of ``source``, FER2013's CSV, with the votes of the file ``path``."""
    return join_votes(source(work, pool, workers), path)


def join_votes(scan: SourceScan, path: Path) -> SourceScan:
    """``scan``, of FER2013's CSV, with each row's votes from the same row of the file ``path``.

    A row without an image name has no votes: its image was removed from FER+. Raises :class:`DataError` if the file
    is not FER+'s, or not for this CSV.
    """
    import pandas

    if not path.is_file():
        raise DataError(f"{path}: there is no such file; it should be FER+'s fer2013new.csv", exit_status=2)
    try:
        votes = pandas.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, pandas.errors.ParserError) as error:
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
    texts = [
        json.dumps(dict(zip(CATEGORIES, row, strict=True)), separators=(",", ":")).encode() if has_votes else None
        for row, has_votes in zip(counts, named, strict=True)
    ]
    return replace(scan, votes=texts)
