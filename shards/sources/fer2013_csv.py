"""FER2013's CSV: ``emotion,pixels,Usage`` as published, or ``emotion, Usage, pixels`` as in ``icml_face_data.csv``.

270 MB of decimal digits: worker processes take pieces of the file and turn the digits of many rows into numbers at
once, with array arithmetic on the bytes, in a third of the time that ``numpy.fromstring`` takes for each row. A row
that is not exactly as it should be is parsed again by :func:`parse_row`, slowly, which says what is wrong with it.
What a spreadsheet or pandas has saved in another form is written in the published one first
(:mod:`shards.sources.csv_form`).
"""

import csv
import math
import mmap
import re
from collections import Counter
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from shards.errors import DataError
from shards.file_kind import other_than_text
from shards.files import sha256_of
from shards.labels import FER2013, FERPLUS, SPLIT_FOLDERS, SPLITS, USAGES, LabelScheme
from shards.pixel_statistics import pixel_digests, pixel_sums
from shards.progress import with_progress
from shards.sources.csv_form import (
    PUBLISHED,
    REPEATED,
    BadRow,
    Header,
    is_published_form,
    label_text,
    published_usage,
    read_header,
    rewrite,
    wrong_fields,
    wrong_label,
    wrong_usage,
)
from shards.sources.packed_csv import PackedCSV, extract, find_csv, first_bytes
from shards.sources.sample_keys import row_key
from shards.sources.scan import PixelFile, Reject, SourceScan

_USAGES = {usage.encode(): SPLITS.index(split) for usage, split in USAGES.items()}
_ROWS_AT_ONCE = 16
"""The arrays of so many rows fit the processor's cache."""
_SPACE = 32
_BLANK = b"\r\n \t"


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


def scan_csv(
    path: Path, given: LabelScheme | None, work: Path, pool: Executor, workers: int, *, has_votes: bool = False
) -> SourceScan:
    """Read the CSV that ``path`` is or holds, with the labels of the scheme ``given``, or else FER2013's.

    ``path`` may be an archive or a folder with one CSV in it (:func:`find_csv`). The pixels go to a file in the folder
    ``work``. ``has_votes``: FER+'s votes will be joined, so no note advises it. Raises :class:`DataError` if the file
    as a whole cannot be used; a row that cannot is a reject.
    """
    scheme = given or FER2013
    source, notes = _csv_file(path, work)
    if not has_votes:
        notes += _votes_notes(path)
    header, is_published = _form(source, path, scheme)
    emotion, pixels, usage = header.columns
    rejects: list[Reject] = []
    text, columns = source, (emotion, pixels, usage or 0)
    if not is_published:
        text, columns = work / "rows.csv", (0, 1, 2)
        rejects = rewrite(source, text, header, scheme, path)
    with open(text, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        line_end = _line_end(content)
        lines, numbers = _rows(content, line_end, _line(content, line_end, 0)[1])
        rows = len(numbers)
        if rejects and len(rejects) == rows:
            first = rejects[0]
            raise DataError(
                f"{path}: none of its {len(rejects)} rows can be used; the first, {first.place}, {first.reason}"
            )
        if not rows:
            raise DataError(f"{path}: has a header and no row")
        side = _side(content, lines, columns)
        store = PixelFile(path=work / "pixels.bin", rows=rows, shape=(1, side, side))
        store.create()
        step = max(_ROWS_AT_ONCE, min(2048, math.ceil(rows / (4 * workers))))
        pieces = [
            Piece(
                path=text,
                shown=path,
                lines=lines[at : at + step + 1],
                numbers=numbers[at : at + step],
                first=at,
                columns=columns,
                names=(header.name(0), header.name(1), header.name(2)),
                scheme=scheme,
                store=store,
            )
            for at in range(0, rows, step)
        ]
        results = pool.map(parse_piece, pieces)
        # While the workers parse: hash the source, load pandas.
        sha256 = sha256_of(source)
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
    if scheme == FERPLUS and not (table.label == FERPLUS.class_names.index("contempt")).any():
        numbers_of_ferplus = ", ".join(f"{number} {name}" for number, name in enumerate(FERPLUS.class_names))
        raise DataError(
            f"{path}: has no label 7, so its labels are probably FER2013's (0 angry) and not FER+'s "
            f"({numbers_of_ferplus}); add --votes fer2013new.csv, and the votes give the labels, or leave out "
            f"--scheme ferplus",
            exit_status=2,
        )
    known = {reject.place for reject in rejects}
    rejects += [reject for part in parts for reject in part.rejects if reject.place not in known]
    return SourceScan(
        table=table,
        sums=np.concatenate([part.sums for part in parts])[usable],
        square_sums=np.concatenate([part.square_sums for part in parts])[usable],
        images=store,
        image_shape=store.shape,
        class_names=scheme.class_names,
        rejects=sorted(rejects, key=lambda reject: int(reject.place.removeprefix("row "))),
        source_format="fer2013-csv",
        source_sha256=sha256,
        notes=(*notes, *header.notes(path)),
        options={} if given is None else {"scheme": given.name},
    )


def holds_pixels(path: Path) -> bool:
    """Whether ``path`` is a CSV of pixels, or an archive or a folder with one in it and without folders of a split."""
    if path.is_dir():
        inside = list(path.iterdir())
        if any(one.name.lower() in SPLIT_FOLDERS and one.is_dir() for one in inside):
            return False
        candidates: list[Path] = [one for one in inside if one.suffix.lower() == ".csv" and one.is_file()]
        return any(_has_pixels(one) for one in candidates)
    try:
        found = find_csv(path)
    except DataError:
        return False
    return found is not None and _has_pixels(found)


def _has_pixels(found: Path | PackedCSV) -> bool:
    header = re.split(rb"[\r\n]", first_bytes(found, 4096), maxsplit=1)[0]
    names = re.split(rb"[,;\t]", header.lower().removeprefix(b"\xef\xbb\xbf"))
    return any(name.strip(b' "') == b"pixels" for name in names)


def _csv_file(path: Path, work: Path) -> tuple[Path, list[str]]:
    """The CSV that ``path`` is or holds, and a note of which it is."""
    found = find_csv(path)
    if found is None:
        kind = "holds no CSV" if path.is_dir() else other_than_text(path)
        raise DataError(f"{path}: {kind}; FER2013's CSV has the columns {', '.join(PUBLISHED)}")
    text = found if isinstance(found, Path) else extract(found, work)
    kind = other_than_text(text)
    if kind:
        raise DataError(f"{path}: {kind}; FER2013's CSV has the columns {', '.join(PUBLISHED)}")
    if not text.stat().st_size:
        raise DataError(f"{path}: is empty; it should be a CSV with the columns emotion, pixels and Usage")
    name = found.name if isinstance(found, Path) else found.member
    notes = [f"{path}: packed its {name}"] if found != path and name else []
    return text, notes


def _votes_notes(path: Path) -> list[str]:
    """What to do about FER+'s votes, for a source that is packed without them."""
    notes = []
    votes = path / "fer2013new.csv"
    if votes.is_file():
        notes.append(f"{votes}: holds FER+'s votes, which were not used; --votes {votes} adds them")
    return notes


def _form(source: Path, path: Path, scheme: LabelScheme) -> tuple[Header, bool]:
    """The header of the file ``source``, called ``path`` in messages, and whether the file is as published."""
    with open(source, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        line_end = _line_end(content)
        line, start = _line(content, line_end, 0)
        header = read_header(line[:4096], path)
        return header, is_published_form(header, _line(content, line_end, start)[0], scheme)


def _line_end(content: mmap.mmap) -> bytes:
    """What ends a line: a line feed, or in a file without one a carriage return, as old spreadsheets write."""
    return b"\n" if content.find(b"\n") >= 0 else b"\r"


def _line(content: mmap.mmap, line_end: bytes, start: int) -> tuple[bytes, int]:
    """The line that begins at ``start``, without its end, and where the next one begins."""
    end = content.find(line_end, start)
    end = len(content) if end < 0 else end
    return content[start:end], min(end + 1, len(content))


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
        if len(fields) == len(PUBLISHED):
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
        found = parse_clean_rows(content, starts, piece.columns, pixels.shape[1], piece.scheme)
        if found is not None:
            labels[batch], splits[batch], pixels[batch] = found
            continue
        for row in range(at, stop):
            line = content[lines[row] : lines[row + 1]].rstrip(_BLANK)
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
