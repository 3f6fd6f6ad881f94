"""FER2013's CSV: ``emotion,pixels,Usage`` as published, or ``emotion, Usage, pixels`` as in ``icml_face_data.csv``.

Worker processes take pieces of the file (:mod:`shards.sources.csv_rows`). What a spreadsheet or pandas has saved in
another form is written in the published one first (:mod:`shards.sources.csv_form`).
"""

import math
import mmap
import re
from collections import Counter
from concurrent.futures import Executor
from itertools import pairwise
from pathlib import Path

import numpy as np

from shards.errors import DataError
from shards.file_kind import other_than_text
from shards.files import only_regular, sha256_of
from shards.labels import FER2013, FERPLUS, LabelScheme
from shards.progress import with_progress
from shards.sources.csv_form import PUBLISHED, Header, is_published_form, read_header, rewrite
from shards.sources.csv_rows import BLANK, ROWS_AT_ONCE, Piece, parse_piece
from shards.sources.packed_csv import PackedCSV, extract, find_csv, first_bytes
from shards.sources.sample_keys import row_key
from shards.sources.scan import PixelFile, Reject, SourceScan
from shards.splits import SPLIT_FOLDERS, SPLITS

_LONGEST_LINE = 1 << 24
"""Bytes of a row: those of an image of 2000 x 2000 pixels."""


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
    with open(text, "rb", opener=only_regular) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        line_end = _line_end(content)
        lines, numbers = _rows(content, line_end, _line(content, line_end, 0)[1], path)
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
        step = max(ROWS_AT_ONCE, min(2048, math.ceil(rows / (4 * workers))))
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
    if scheme == FERPLUS:
        _refuse_labels_of_fer2013(path, table.label.to_numpy())
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


def _refuse_labels_of_fer2013(path: Path, labels: np.ndarray) -> None:
    """Raise :class:`DataError` (exit status 2) if ``labels``, read as FER+'s, have no contempt."""
    if (labels == FERPLUS.class_names.index("contempt")).any():
        return
    raise DataError(
        f"{path}: has no label 7, so its labels are probably FER2013's (0 angry) and not FER+'s "
        f"({FERPLUS.describe()}); add --votes fer2013new.csv, and the votes give the labels, or leave out "
        f"--scheme ferplus",
        exit_status=2,
    )


def _votes_notes(path: Path) -> list[str]:
    """What to do about FER+'s votes, for a source that is packed without them."""
    votes = path / "fer2013new.csv"
    return [f"{votes}: holds FER+'s votes, which were not used; --votes {votes} adds them"] if votes.is_file() else []


def _form(source: Path, path: Path, scheme: LabelScheme) -> tuple[Header, bool]:
    """The header of the file ``source``, called ``path`` in messages, and whether the file is as published."""
    with (
        open(source, "rb", opener=only_regular) as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        line_end = _line_end(content)
        line, start = _line(content, line_end, 0)
        header = read_header(line[:4096], path)
        return header, is_published_form(header, _line(content, line_end, start)[0], scheme)


def _line_end(content: mmap.mmap) -> bytes:
    """What ends a line: a line feed, or in a file without one a carriage return, as old spreadsheets write."""
    return b"\n" if content.find(b"\n", 0, _LONGEST_LINE) >= 0 else b"\r"


def _line(content: mmap.mmap, line_end: bytes, start: int) -> tuple[bytes, int]:
    """The line that begins at ``start``, without its end, and where the next one begins."""
    end = content.find(line_end, start, start + _LONGEST_LINE)
    end = min(len(content), start + _LONGEST_LINE) if end < 0 else end
    return content[start:end], min(end + 1, len(content))


def _rows(content: mmap.mmap, line_end: bytes, start: int, path: Path) -> tuple[list[int], list[int]]:
    """Where each row starts, and where the last one ends; and their numbers, counted from 1.

    A blank line has a number but is not a row: its bytes belong to the end of the row before.
    """
    end = len(content)
    while end > start and content[end - 1] in BLANK:
        end -= 1
    starts, numbers = list[int](), list[int]()
    offset, number = start, 0
    while offset < end:
        number += 1
        found = content.find(line_end, offset, min(end, offset + _LONGEST_LINE))
        if found < 0 and end - offset > _LONGEST_LINE:
            raise DataError(f"{path}: row {number} has more than {_LONGEST_LINE:,} bytes, as no CSV of images has")
        after = found + 1 if found >= 0 else end + 1
        if content[offset] not in BLANK or content[offset:after].strip():
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
