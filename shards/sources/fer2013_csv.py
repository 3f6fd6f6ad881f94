"""FER2013's CSV: ``emotion,pixels,Usage`` as published, or ``emotion, Usage, pixels`` as in ``icml_face_data.csv``.

270 MB of decimal digits: worker processes take pieces of the file and turn the digits of many rows into numbers at
once, with array arithmetic on the bytes, in a third of the time that ``numpy.fromstring`` takes for each row. A row
that is not exactly as it should be is parsed again by :func:`parse_row`, slowly, which says what is wrong with it.
"""

import csv
import hashlib
import math
import mmap
from collections import Counter
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from shards.errors import DataError
from shards.labels import FER2013_CLASSES, SPLITS, USAGES
from shards.pixel_statistics import pixel_digests, pixel_sums
from shards.progress import with_progress
from shards.sources.sample_keys import row_key
from shards.sources.scan import PixelFile, Reject, SourceScan

COLUMNS = ("emotion", "pixels", "usage")
_LABELS = {str(label).encode(): label for label in range(len(FER2013_CLASSES))}
_USAGES = {usage.encode(): SPLITS.index(split) for usage, split in USAGES.items()}
_ROWS_AT_ONCE = 16
"""The arrays of so many rows fit the processor's cache."""
_SPACE = 32
_BLANK = b"\r\n \t"


class BadRow(Exception):
    """A row that cannot be used; the message says why, and what would be right."""


class Parsed(NamedTuple):
    """What a piece of the file holds; arrays have an element for each of its rows."""

    labels: np.ndarray
    splits: np.ndarray
    """Index in ``SPLITS``, -1 for a row that cannot be used."""
    digests: list[str]
    sums: np.ndarray
    square_sums: np.ndarray
    rejects: list[Reject]


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A piece of the file for one task: whole rows."""

    path: Path
    lines: list[int]
    """Where each row starts, and where the last one ends."""
    numbers: list[int]
    """The rows' numbers: lines after the header, counted from 1, blank ones too."""
    first: int
    """The index of the first row among all rows."""
    columns: tuple[int, int, int]
    """Indices of the columns emotion, pixels and Usage."""
    store: PixelFile
    """Takes the pixels of all rows, in their order."""


def scan_csv(path: Path, work: Path, pool: Executor, workers: int) -> SourceScan:
    """Read the CSV ``path``; the pixels go to a file in the folder ``work``.

    Raises :class:`DataError` if the file as a whole cannot be used; a row that cannot is a reject.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; it should be FER2013's CSV", exit_status=2)
    if not path.stat().st_size:
        raise DataError(f"{path}: is empty; it should be a CSV with the columns emotion, pixels and Usage")
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        line_end = _line_end(content)
        columns, start = _header(content, line_end, path)
        lines, numbers = _rows(content, line_end, start)
        rows = len(numbers)
        if not rows:
            raise DataError(f"{path}: has a header and no row")
        side = _side(content, lines, columns)
        store = PixelFile(path=work / "pixels.bin", rows=rows, shape=(1, side, side))
        store.create()
        step = max(_ROWS_AT_ONCE, min(2048, math.ceil(rows / (4 * workers))))
        pieces = [
            Piece(
                path=path,
                lines=lines[at : at + step + 1],
                numbers=numbers[at : at + step],
                first=at,
                columns=columns,
                store=store,
            )
            for at in range(0, rows, step)
        ]
        results = pool.map(parse_piece, pieces)
        # While the workers parse: hash the source, load pandas.
        sha256 = hashlib.sha256(content).hexdigest()
        import pandas

        parts = list(with_progress(results, "reading rows", rows, unit=" rows", size=lambda part: len(part.labels)))
    splits = np.concatenate([part.splits for part in parts])
    usable = np.flatnonzero(splits >= 0)
    digests = np.array([digest for part in parts for digest in part.digests], dtype=object)
    table = pandas.DataFrame(
        {
            "key": [row_key(numbers[row]) for row in usable.tolist()],
            "split": np.array(SPLITS)[splits[usable]],
            "label": np.concatenate([part.labels for part in parts])[usable].astype(np.int64),
            "location": usable,
            "digest": digests[usable],
        }
    )
    return SourceScan(
        table=table,
        sums=np.concatenate([part.sums for part in parts])[usable],
        square_sums=np.concatenate([part.square_sums for part in parts])[usable],
        images=store,
        image_shape=store.shape,
        class_names=FER2013_CLASSES,
        rejects=[reject for part in parts for reject in part.rejects],
        source_format="fer2013-csv",
        source_sha256=sha256,
    )


def header_columns(line: bytes, path: Path) -> tuple[int, int, int]:
    """Indices of the columns emotion, pixels and Usage in the header ``line``. Raises :class:`DataError`."""
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 (byte {error.start} of the header); save it as UTF-8") from error
    if "\0" in text:
        raise DataError(f"{path}: is not UTF-8 text (its header has zero bytes); save it as UTF-8")
    names = [name.strip().strip('"').strip().lower() for name in text.split(",")]
    missing = [name for name in COLUMNS if name not in names]
    if missing or len(names) != len(COLUMNS):
        what = f"has no column {' and no column '.join(missing)}" if missing else "has too many columns"
        found = ", ".join(name or "(blank)" for name in names)
        raise DataError(
            f"{path}: {what}; its header is {found[:200]!r}, it should be emotion,pixels,Usage in any order"
        )
    emotion, pixels, usage = (names.index(name) for name in COLUMNS)
    return emotion, pixels, usage


def _line_end(content: mmap.mmap) -> bytes:
    """What ends a line: a line feed, or in a file without one a carriage return, as old spreadsheets write."""
    return b"\n" if content.find(b"\n") >= 0 else b"\r"


def _header(content: mmap.mmap, line_end: bytes, path: Path) -> tuple[tuple[int, int, int], int]:
    end = content.find(line_end)
    end = len(content) if end < 0 else end
    return header_columns(content[: min(end, 4096)], path), min(end + 1, len(content))


def _rows(content: mmap.mmap, line_end: bytes, start: int) -> tuple[list[int], list[int]]:
    """Where each row starts, and where the last one ends; and their numbers, counted from 1.

    A blank line has a number but is not a row: its bytes belong to the end of the row before.
    """
    end = len(content)
    while end > start and content[end - 1] in _BLANK:
        end -= 1
    starts, numbers = list[int](), list[int]()
    offset, number = start, 0
    while offset < end:
        number += 1
        found = content.find(line_end, offset, end)
        after = found + 1 if found >= 0 else end + 1
        if content[offset] not in _BLANK or content[offset:after].strip():
            starts.append(offset)
            numbers.append(number)
        offset = after
    return [*starts, end + 1], numbers


def _side(content: mmap.mmap, lines: list[int], columns: tuple[int, int, int]) -> int:
    """The side of the square images in most of the first rows; 48 if none of them is square."""
    counts: Counter[int] = Counter()
    for start, end in pairwise(lines[:65]):
        fields = content[start : end - 1].split(b",")
        if len(fields) == len(COLUMNS):
            counts[len(fields[columns[1]].split())] += 1
    for count, _ in counts.most_common():
        if count and math.isqrt(count) ** 2 == count:
            return math.isqrt(count)
    return 48


def parse_piece(piece: Piece) -> Parsed:
    """Parse the rows of a piece, in a worker process; their pixels go to ``piece.store``."""
    rows = len(piece.numbers)
    labels, splits = np.zeros(rows, np.int8), np.full(rows, -1, np.int8)
    rejects: list[Reject] = []
    images = piece.store.open("r+")[piece.first : piece.first + rows]
    with open(piece.path, "rb") as file:
        file.seek(piece.lines[0])
        content = file.read(piece.lines[-1] - piece.lines[0])
    lines = [start - piece.lines[0] for start in piece.lines]
    lines[-1] = len(content)  # the file's last line may lack its end
    pixels = images.reshape(rows, -1)
    for at in range(0, rows, _ROWS_AT_ONCE):
        stop = min(at + _ROWS_AT_ONCE, rows)
        batch = slice(at, stop)
        starts = lines[at : stop + 1]
        found = parse_clean_rows(content, starts, piece.columns, pixels.shape[1])
        if found is not None:
            labels[batch], splits[batch], pixels[batch] = found
            continue
        for row in range(at, stop):
            line = content[lines[row] : lines[row + 1]].rstrip(_BLANK)
            try:
                labels[row], splits[row], pixels[row] = parse_row(line, piece.columns, pixels.shape[1])
            except BadRow as error:
                rejects.append(Reject(place=f"row {piece.numbers[row]}", reason=str(error)))
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{piece.path}: row {piece.numbers[row]} is not UTF-8 ({error.reason}); save the file as UTF-8"
                ) from error
    sums, square_sums = pixel_sums(images)
    return Parsed(labels, splits, pixel_digests(images), sums, square_sums, rejects)


def parse_clean_rows(
    content: bytes, starts: list[int], columns: tuple[int, int, int], pixel_count: int
) -> tuple[list[int], list[int], np.ndarray] | None:
    """Labels, splits and pixels (uint8, (rows, pixel_count)) of lines that are all as they should be, else None.

    ``starts`` holds where in ``content`` each line begins, and where the last one ends.
    """
    labels, splits, bounds = list[int](), list[int](), list[tuple[int, int]]()
    begin = starts[0]
    for start, end in pairwise(starts):
        first, last = content.find(b",", start, end), content.rfind(b",", start, end)
        if first == last:
            return None
        fields = ((start, first), (first + 1, last), (last + 1, end))
        label = _LABELS.get(content[slice(*fields[columns[0]])].strip())
        split = _USAGES.get(content[slice(*fields[columns[2]])].strip())
        if label is None or split is None:
            return None
        left, right = fields[columns[1]]
        while left < right and content[left] == _SPACE:
            left += 1
        while left < right and content[right - 1] in b" \r\n":
            right -= 1
        labels.append(label)
        splits.append(split)
        bounds.append((left - begin, right - begin))
    text = np.frombuffer(content, np.uint8, starts[-1] - begin, begin)
    numbers = text - 48  # anything but a digit becomes 10 or more: uint8 wraps around
    digit = (numbers < 10).view(np.uint8)
    second, third = digit[1:] & digit[:-1], digit[2:] & digit[1:-1] & digit[:-2]
    if np.count_nonzero(third[1:] & third[:-1]):
        return None  # a number of four digits
    numbers *= digit
    hundreds = numbers[:-2] * third
    tens = numbers[:-1] * second
    numbers[1:] += tens * np.uint8(10)
    numbers[2:] += hundreds * np.uint8(100)
    # A line is clean if it has pixel_count numbers with one blank between each two. First, where a number ends.
    is_end = np.empty(len(text), bool)
    is_end[-1] = digit[-1]
    np.greater(digit[:-1], digit[1:], out=is_end[:-1])
    previous, between, blanks = 0, 0, int(np.count_nonzero(text == _SPACE))
    for left, right in bounds:
        is_end[previous:left] = False
        blanks -= content.count(b" ", begin + previous, begin + left)
        between += right - left
        previous = right
    is_end[previous:] = False
    blanks -= content.count(b" ", begin + previous, starts[-1])
    between -= int(np.count_nonzero(digit)) - len(bounds)  # all digits but the labels': what is left is between numbers
    found = np.flatnonzero(is_end)
    if not len(found) == blanks + len(bounds) == between + len(bounds) == len(bounds) * pixel_count:
        return None
    ends = found.reshape(len(bounds), pixel_count)
    edges = np.array(bounds)
    if (ends[:, 0] < edges[:, 0]).any() or (ends[:, -1] >= edges[:, 1]).any():
        return None
    values = numbers[ends]
    # uint8 hides a number above 255: then its hundreds are more than 2, or 2 while its value is below 200.
    if hundreds.max(initial=0) > 2 or np.count_nonzero(hundreds == 2) != np.count_nonzero(values >= 200):
        return None
    return labels, splits, values


def parse_row(line: bytes, columns: tuple[int, int, int], pixel_count: int) -> tuple[int, int, np.ndarray]:
    """Label, index of the split and pixels (uint8, (pixel_count,)) of one line. Raises :class:`BadRow`."""
    text = line.decode()
    try:
        fields = next(csv.reader([text]), []) if '"' in text else text.split(",")
    except csv.Error as error:
        raise BadRow(f"is not CSV ({error}); it should have emotion, pixels and Usage") from error
    if len(fields) != len(COLUMNS):
        raise BadRow(
            f"has {len(fields)} field{'' if len(fields) == 1 else 's'}; it should have emotion, pixels and Usage"
        )
    emotion, pixels, usage = (fields[column].strip() for column in columns)
    label = _LABELS.get(emotion.encode())
    if label is None:
        meaning = ", ".join(f"{label} {name}" for label, name in enumerate(FER2013_CLASSES))
        raise BadRow(f"emotion is {emotion[:40]!r}; it should be a label from 0 to 6 ({meaning})")
    split = _USAGES.get(usage.encode())
    if split is None:
        raise BadRow(f"Usage is {usage[:40]!r}; it should be {', '.join(USAGES)}")
    numbers = pixels.split()
    if len(numbers) != pixel_count:
        raise BadRow(f"has {len(numbers)} pixels; it should have {pixel_count}")
    values = [int(number) if number.isascii() and number.isdigit() and len(number) < 10 else -1 for number in numbers]
    for index, value in enumerate(values):
        if not 0 <= value <= 255:
            raise BadRow(f"pixel {index + 1} is {numbers[index][:40]!r}; it should be a whole number from 0 to 255")
    return label, split, np.array(values, np.uint8)
