"""The rows of FER2013's CSV in its published form, a piece of the file at a time, in a worker process.

270 MB of decimal digits: the digits of many rows are turned into numbers at once, with array arithmetic on the bytes,
in a third of the time that ``numpy.fromstring`` takes for each row. A row that is not exactly as it should be is parsed
again by :func:`parse_row`, slowly, which says what is wrong with it.
"""

import csv
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from shards.errors import DataError
from shards.files import only_regular
from shards.labels import FER2013, LabelScheme
from shards.pixel_statistics import pixel_digests, pixel_sums
from shards.sources.csv_form import (
    PUBLISHED,
    REPEATED,
    BadRow,
    label_text,
    published_usage,
    wrong_fields,
    wrong_label,
    wrong_usage,
)
from shards.sources.scan import PixelFile, Reject
from shards.splits import SPLITS, USAGES

_USAGES = {usage.encode(): SPLITS.index(split) for usage, split in USAGES.items()}
ROWS_AT_ONCE = 16
"""The arrays of so many rows fit the processor's cache."""
_SPACE = 32
BLANK = b"\r\n \t"


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
    shown: Path
    """What messages call the file."""
    lines: list[int]
    """Where each row starts, and where the last one ends."""
    numbers: list[int]
    """The rows' numbers: lines after the header, counted from 1, blank ones too."""
    first: int
    """The index of the first row among all rows."""
    columns: tuple[int, int, int]
    """Indices of the columns emotion, pixels and Usage."""
    names: tuple[str, str, str]
    """What the file calls them."""
    scheme: LabelScheme
    store: PixelFile
    """Takes the pixels of all rows, in their order."""


def parse_piece(piece: Piece) -> Parsed:
    """Parse the rows of a piece, in a worker process; their pixels go to ``piece.store``."""
    rows = len(piece.numbers)
    labels, splits = np.zeros(rows, np.int8), np.full(rows, -1, np.int8)
    rejects: list[Reject] = []
    images = piece.store.open("r+")[piece.first : piece.first + rows]
    with open(piece.path, "rb", opener=only_regular) as file:
        file.seek(piece.lines[0])
        content = file.read(piece.lines[-1] - piece.lines[0])
    lines = [start - piece.lines[0] for start in piece.lines]
    lines[-1] = len(content)  # the file's last line may lack its end
    pixels = images.reshape(rows, -1)
    for at in range(0, rows, ROWS_AT_ONCE):
        stop = min(at + ROWS_AT_ONCE, rows)
        batch = slice(at, stop)
        starts = lines[at : stop + 1]
        found = parse_clean_rows(content, starts, piece.columns, pixels.shape[1], piece.scheme)
        if found is not None:
            labels[batch], splits[batch], pixels[batch] = found
            continue
        for row in range(at, stop):
            line = content[lines[row] : lines[row + 1]].rstrip(BLANK)
            try:
                labels[row], splits[row], pixels[row] = parse_row(
                    line, piece.columns, pixels.shape[1], piece.scheme, piece.names
                )
            except BadRow as error:
                rejects.append(Reject(place=f"row {piece.numbers[row]}", reason=str(error)))
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{piece.shown}: row {piece.numbers[row]} is not UTF-8 ({error.reason}); save the file as UTF-8"
                ) from error
    sums, square_sums = pixel_sums(images)
    return Parsed(labels, splits, pixel_digests(images), sums, square_sums, rejects)


def parse_clean_rows(
    content: bytes,
    starts: list[int],
    columns: tuple[int, int, int],
    pixel_count: int,
    scheme: LabelScheme = FER2013,
) -> tuple[list[int], list[int], np.ndarray] | None:
    """Labels, splits and pixels (uint8, (rows, pixel_count)) of lines that are all as they should be, else None.

    ``starts`` holds where in ``content`` each line begins, and where the last one ends.
    """
    label_of = _labels(scheme)
    labels, splits, bounds = list[int](), list[int](), list[tuple[int, int]]()
    begin = starts[0]
    for start, end in pairwise(starts):
        first, last = content.find(b",", start, end), content.rfind(b",", start, end)
        if first == last:
            return None
        fields = ((start, first), (first + 1, last), (last + 1, end))
        label = label_of.get(content[slice(*fields[columns[0]])].strip())
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


def parse_row(
    line: bytes,
    columns: tuple[int, int, int],
    pixel_count: int,
    scheme: LabelScheme = FER2013,
    names: tuple[str, str, str] = PUBLISHED,
) -> tuple[int, int, np.ndarray]:
    """Label, index of the split and pixels (uint8, (pixel_count,)) of one line. Raises :class:`BadRow`.

    ``names`` are those of the three columns in messages.
    """
    text = line.decode()
    try:
        fields = next(csv.reader([text]), []) if '"' in text else text.split(",")
    except csv.Error as error:
        raise BadRow(f"is not CSV ({error}); it should have emotion, pixels and Usage") from error
    if len(fields) != len(PUBLISHED):
        raise BadRow(wrong_fields(len(fields)))
    emotion, pixels, usage = (fields[column].strip() for column in columns)
    if (emotion, pixels, usage) == names:
        raise BadRow(REPEATED)
    # A name or a float among numbers, train among Training: the first row alone tells whether the file is rewritten.
    label = _labels(scheme).get((label_text(emotion, scheme) or "").encode())
    if label is None:
        raise BadRow(wrong_label(names[0], emotion, scheme))
    split = _USAGES.get((published_usage(usage) or "").encode())
    if split is None:
        raise BadRow(wrong_usage(names[2], usage))
    numbers = pixels.split()
    if len(numbers) != pixel_count:
        raise BadRow(f"has {len(numbers)} pixels; it should have {pixel_count}")
    values = [int(number) if number.isascii() and number.isdigit() and len(number) < 10 else -1 for number in numbers]
    for index, value in enumerate(values):
        if not 0 <= value <= 255:
            raise BadRow(f"pixel {index + 1} is {numbers[index][:40]!r}; it should be a whole number from 0 to 255")
    return label, split, np.array(values, np.uint8)


def _labels(scheme: LabelScheme) -> dict[bytes, int]:
    """The index of each label, as the CSV writes it."""
    return {str(scheme.first_label + index).encode(): index for index in range(len(scheme.class_names))}
