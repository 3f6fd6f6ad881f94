"""Lists of image files: CSV, TSV or text with a path and a label a row, and ``metadata.csv`` of Hugging Face."""

import csv
import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TextIO

from shards.errors import DataError
from shards.file_kind import other_than_text
from shards.files import only_regular
from shards.images import is_image_name
from shards.labels import whole_number
from shards.sources.class_folders import check_stated_classes, has_class_folders
from shards.sources.listed_files import ImageFinder, NotFound
from shards.sources.listing import Box, Folder, ListedImage, Listing, SourceOptions
from shards.sources.scan import Reject, all_train
from shards.splits import SPLIT_FOLDERS, split_in_name, split_of_word
from shards.text import plural

LAYOUT = (
    "a CSV, TSV or text file with the columns image and label, or a folder that holds such a file, such as labels.csv "
    "and images/IMAGE, or SPLIT/metadata.csv and SPLIT/IMAGE"
)
_NAMES = {
    "image": (
        *("image", "file", "file_name", "filename", "path", "filepath", "file_path", "pth", "image_path", "img_path"),
        *("img", "image_name", "img_name", "image_file", "image_id", "name", "picture", "photo", "id"),
    ),
    "label": ("label", "labels", "emotion", "emotions", "expression", "class", "class_name", "category", "target"),
    "split": ("split", "usage", "set", "subset", "partition", "phase"),
    "subject": ("subject", "subject_id", "person", "person_id", "identity", "id", "user"),
}
"""Names of columns, in lower case with ``_`` for blanks; of several in one header the first here is the column."""
_BOXES = (
    ("left", "top", "right", "bottom"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("x1", "y1", "x2", "y2"),
    ("face_box_left", "face_box_top", "face_box_right", "face_box_bottom"),
)
_SIZED_BOXES = (
    ("x", "y", "width", "height"),
    ("x", "y", "w", "h"),
    ("left", "top", "width", "height"),
    ("face_x", "face_y", "face_width", "face_height"),
)
_LIST_ENDS = (".csv", ".tsv", ".txt", ".lst")
_METADATA = "metadata.csv"
_LOOKED_AT = 20
"""Lines that tell what a list is like."""
_LONGEST_LINE = 1 << 20
_MOST_LISTS = 100
"""A folder of more text files holds other things."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _List:
    """A list file, its rows not yet looked at."""

    path: Path
    separator: str | None
    """None: blanks."""
    columns: Mapping[str, int]
    """Indices of ``image`` and ``label``, and of ``split`` and ``subject`` where they are there."""
    box: tuple[tuple[int, int, int, int], bool] | None
    """Indices of a box's columns, and whether the last two are its width and height."""
    width: int
    """Fields of a row."""
    has_header: bool
    split: str
    """The split of all rows, by the file's name or folder; empty if neither tells."""


def matches(path: Path) -> bool:
    """Whether ``path`` is a list of image files, or a folder with lists and without class folders."""
    if path.is_dir():
        return not has_class_folders(path) and bool(_lists_in(path))
    return _header_of(path, path.parent) is not None


def list_images(path: Path, options: SourceOptions) -> Listing:
    """The images of the list, or of the lists in the folder, ``path``. A row that cannot be used is a reject.

    Raises :class:`DataError` if there is no list, several that are not of different splits, or one without images.
    """
    root = path if path.is_dir() else path.parent
    lists = _lists_in(path) if path.is_dir() else [one for one in [_header_of(path, root)] if one is not None]
    if len(lists) > 1:
        lists = _one_a_split(path, lists)
    if not lists:
        raise DataError(f"{path}: is no list of images; it should be {LAYOUT}", exit_status=2)
    images: list[ListedImage] = []
    rejects: list[Reject] = []
    for one in lists:
        _read_list(one, root, images, rejects)
    if not images:
        first = f"the first, {rejects[0].place}, {rejects[0].reason}" if rejects else "it has no row"
        raise DataError(f"{path}: none of its {len(rejects)} rows can be used; {first}")
    images, notes = with_splits(images, path)
    if options.scheme is not None or not any(whole_number(image.label) is not None for image in images):
        check_stated_classes(path, images, options)
    return Listing(
        root=path,
        images=images,
        container=Folder(root=root),
        source_format="list",
        scheme=options.scheme,
        rejects=rejects,
        notes=notes,
    )


def with_splits(images: list[ListedImage], source: Path) -> tuple[list[ListedImage], list[str]]:
    """``images`` with a split each, and notes about it.

    Where none has a split and all their paths begin with the name of one, it is that; else it is train.
    """
    if any(image.split for image in images):
        missing = [image for image in images if not image.split]
        notes = [f"{source}: {len(missing)} images without a split are train"] if missing else []
        return [replace(image, split=image.split or "train") for image in images], notes
    firsts = [SPLIT_FOLDERS.get(PurePosixPath(image.name).parts[0].lower(), "") for image in images]
    if all(firsts):
        return [replace(image, split=split) for image, split in zip(images, firsts, strict=True)], []
    return [replace(image, split="train") for image in images], [all_train(source)]


def _lists_in(root: Path) -> list[_List]:
    """The lists in the folder ``root``; else ``metadata.csv`` in split folders, or lists one folder below."""
    below = sorted(one for one in root.iterdir() if one.is_dir() and not one.name.startswith("."))
    for level in ([root], [*below, *(one for folder in below for one in sorted(folder.iterdir()) if one.is_dir())]):
        files = [
            file
            for folder in level
            for file in sorted(folder.iterdir())
            if file.suffix.lower() in _LIST_ENDS and not file.name.startswith(".") and file.is_file()
        ]
        lists = [one for file in files[:_MOST_LISTS] if (one := _header_of(file, root)) is not None]
        if lists:
            return lists
    return []


def _one_a_split(path: Path, lists: Sequence[_List]) -> list[_List]:
    """Of several lists those that name a split. Raises :class:`DataError` if they do not have one each."""
    named = [one for one in lists if one.split]
    if not named or len({one.split for one in named}) < len(named):
        names = ", ".join(str(one.path.relative_to(path)) for one in lists[:5])
        raise DataError(
            f"{path}: holds {len(lists)} lists ({names}); pack one of them, or name each after its split, such as "
            f"train.csv and test.csv",
            exit_status=2,
        )
    return named


def _header_of(path: Path, root: Path) -> _List | None:
    """How the list ``path`` is written; None if it is no list of images."""
    if path.suffix.lower() not in _LIST_ENDS or not path.is_file() or other_than_text(path) is not None:
        return None
    with open(path, encoding="utf-8-sig", errors="replace", newline="", opener=only_regular) as file:
        lines = file.read(1 << 16).splitlines()
    lines = [line for line in lines[: _LOOKED_AT + 1] if line.strip()]
    if not lines:
        return None
    try:
        split = split_in_name(path.relative_to(root).as_posix()) or ""
    except DataError:
        split = ""
    for separator in (",", ";", "\t", None):
        fewest = min(len(line.split()) for line in lines)
        rows = [_fields(line, separator, fewest) for line in lines]
        names = [re.sub(r"[\s-]+", "_", name.strip().lower()) for name in rows[0]]
        columns = {key: _index(names, known) for key, known in _NAMES.items()}
        has_header = columns["image"] is not None and columns["label"] is not None
        if not has_header:
            columns = _by_content(rows)
        if columns.get("image") is None or columns.get("label") is None:
            continue
        if columns.get("subject") == columns["image"]:
            columns["subject"] = None  # the column id
        return _List(
            path=path,
            separator=separator,
            columns={key: index for key, index in columns.items() if index is not None},
            box=_box_columns(names) if has_header else None,
            width=len(names),
            has_header=has_header,
            split=split,
        )
    return None


def _by_content(rows: Sequence[Sequence[str]]) -> dict[str, int | None]:
    """The columns of rows without a header: one of image files, perhaps one of splits, and one more, the label."""
    if any(len(row) != len(rows[0]) for row in rows[:-1]):  # the last may be cut
        return {}
    values = list(zip(*(rows[:-1] or rows), strict=True))
    images = [i for i, column in enumerate(values) if all(is_image_name(value) for value in column)]
    splits = [i for i, column in enumerate(values) if all(split_of_word(value) for value in column)]
    others = [i for i in range(len(values)) if i not in (*images, *splits)]
    if len(images) != 1 or len(splits) > 1 or len(others) != 1:
        return {}
    return {"image": images[0], "label": others[0], "split": splits[0] if splits else None}


def _read_list(found: _List, root: Path, images: list[ListedImage], rejects: list[Reject]) -> None:
    """Add the rows of a list to ``images`` and ``rejects``."""
    base = found.path.parent if found.path.name.lower() == _METADATA else root
    above = base.relative_to(root)
    finder = ImageFinder(base)
    shown = found.path.relative_to(root).as_posix()
    seen: dict[tuple[str, Box | None], int] = {}
    faces: Counter[str] = Counter()
    for number, fields in _rows(found):
        place = f"row {number} of {shown}"
        try:
            row = _parse(fields, found)
            location = posixpath.normpath((above / finder.find(row.image)).as_posix())
            if (location, row.box) in seen:
                raise NotFound(f"{row.image}: is listed in row {seen[location, row.box]} already; remove one")
        except NotFound as error:
            rejects.append(Reject(place=place, reason=str(error)))
            continue
        seen[location, row.box] = number
        faces[location] += 1
        images.append(
            ListedImage(
                location=location,
                name=face_name(location, faces[location]),
                place=f"{place} ({row.image})",
                label=row.label,
                split=row.split or found.split,
                subject=row.subject,
                box=row.box,
            )
        )


def face_name(location: str, number: int) -> str:
    """A name for one of several faces in an image, counted from 1."""
    path = PurePosixPath(location)
    return location if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}").as_posix()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Row:
    image: str
    label: str
    split: str
    subject: str
    box: Box | None


def _parse(fields: Sequence[str], found: _List) -> _Row:
    """A row's fields by their meaning. Raises :class:`NotFound`."""
    fields = [field.strip() for field in fields]
    while len(fields) > found.width and not fields[-1]:
        fields = fields[:-1]
    if len(fields) != found.width:
        raise NotFound(f"has {plural(len(fields), 'field')}; it should have {found.width}")
    values = {key: fields[index] for key, index in found.columns.items()}
    if not values["label"]:
        raise NotFound("has no label; it should have the name or the number of a class")
    split = ""
    if values.get("split"):
        split = split_of_word(values["split"]) or ""
        if not split:
            raise NotFound(f"is of the split {values['split'][:40]!r}; it should be train, val or test")
    box = None
    if found.box is not None:
        indices, is_sized = found.box
        box = parse_box([fields[index] for index in indices], is_sized=is_sized)
    return _Row(image=values["image"], label=values["label"], split=split, subject=values.get("subject", ""), box=box)


def parse_box(numbers: Sequence[str], *, is_sized: bool = False) -> Box | None:
    """The box of left, top, right and bottom, or of left, top, width and height; None where all are blank.

    Raises :class:`NotFound` for what is no box.
    """
    if not any(numbers):
        return None
    try:
        left, top, right, bottom = (round(float(number)) for number in numbers)
    except (ValueError, OverflowError):
        raise NotFound(f"has the box {' '.join(numbers)[:60]!r}; it should be four numbers") from None
    if is_sized:
        right, bottom = left + right, top + bottom
    if right <= left or bottom <= top:
        raise NotFound(f"has a box of no pixel: left {left}, top {top}, right {right}, bottom {bottom}")
    return Box(left, top, right, bottom)


def _rows(found: _List) -> Iterator[tuple[int, list[str]]]:
    """The rows but the header, each with its number, counted from 1; blank ones have a number and are left out."""
    try:
        with open(found.path, encoding="utf-8-sig", newline="", opener=only_regular) as file:
            lines = _lines(file, found.path)
            if found.separator is None:
                rows: Iterator[list[str]] = (_fields(line.rstrip("\r\n"), None, found.width) for line in lines)
            else:
                rows = csv.reader(lines, delimiter=found.separator)
            for number, fields in enumerate(rows, 0 if found.has_header else 1):
                if number and any(field.strip() for field in fields):
                    yield number, fields
    except UnicodeDecodeError as error:
        raise DataError(f"{found.path}: is not UTF-8 ({error.reason}); save it as UTF-8") from error
    except csv.Error as error:
        raise DataError(f"{found.path}: is not CSV ({error})") from error


def _lines(file: TextIO, path: Path) -> Iterator[str]:
    """The lines of ``file``. Raises :class:`DataError` for one that would fill the memory."""
    while line := file.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE:
            raise DataError(f"{path}: has a line of more than {_LONGEST_LINE:,} letters, so it is not a list of images")
        yield line


def _fields(line: str, separator: str | None, width: int | None = None) -> list[str]:
    if separator is not None:
        try:
            return next(csv.reader([line], delimiter=separator), [])
        except csv.Error:
            return []
    fields = line.split()
    if width is not None and len(fields) > width and is_image_name(line.rsplit(None, width - 1)[0]):
        return line.rsplit(None, width - 1)  # a path with blanks
    return fields


def _index(names: Sequence[str], known: Sequence[str]) -> int | None:
    return next((names.index(name) for name in known if name in names), None)


def _box_columns(names: Sequence[str]) -> tuple[tuple[int, int, int, int], bool] | None:
    for columns, is_sized in [*((one, False) for one in _BOXES), *((one, True) for one in _SIZED_BOXES)]:
        if all(name in names for name in columns):
            first, second, third, fourth = (names.index(name) for name in columns)
            return (first, second, third, fourth), is_sized
    return None
