"""The forms in which FER2013's CSV is found: its header, and what becomes of a form other than the published one."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shards.errors import DataError
from shards.files import only_regular
from shards.labels import LabelScheme
from shards.sources.scan import Reject, all_train
from shards.splits import USAGES, split_of_word
from shards.text import plural

PUBLISHED = ("emotion", "pixels", "Usage")
"""The columns as FER2013's CSV has them."""
_NAMES = {
    "emotion": ("emotion", "emotions", "label", "labels", "expression", "class"),
    "pixels": ("pixels", "pixel"),
    "Usage": ("usage", "split", "set", "partition"),
}
"""Names of each column, in lower case; of several in one header the first here is the column."""
_INDEX = ("", "unnamed: 0", "index", "id")
_LONGEST_FIELD = 1 << 22
"""More characters than the pixels of an image have: a quote was not closed."""
_NO_CONTENT = ",,"
_USAGE_OF = {split: usage for usage, split in USAGES.items()}


class BadRow(Exception):
    """A row that cannot be used; the message says why, and what would be right."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """The first line of the CSV."""

    names: tuple[str, ...]
    """As the file writes them, less the blanks around them."""
    separator: str
    columns: tuple[int, int, int | None]
    """Indices of emotion, pixels and Usage; None if there is no Usage."""

    def name(self, column: int) -> str:
        """What the file calls ``PUBLISHED[column]``."""
        index = self.columns[column]
        return PUBLISHED[column] if index is None else self.names[index]

    def notes(self, path: Path) -> list[str]:
        """Messages about columns of the file ``path``: those that nothing reads, and a missing Usage."""
        unused = [
            name for index, name in enumerate(self.names) if index not in self.columns and name.lower() not in _INDEX
        ]
        notes = [f"{path}: not used: column{'s' * (len(unused) > 1)} {', '.join(unused)}"] if unused else []
        if self.columns[2] is None:
            notes.append(all_train(path, "has no column Usage, so all of it is train"))
        return notes

    def is_repeated_by(self, fields: Sequence[str]) -> bool:
        """Whether the fields of a row are the header again."""
        return tuple(field.strip() for field in fields) == self.names


def read_header(line: bytes, path: Path) -> Header:
    """The header ``line`` of the file ``path``. Raises :class:`DataError` if it is not that of labelled pixels."""
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 (byte {error.start} of the header); save it as UTF-8") from error
    if "\0" in text:
        raise DataError(f"{path}: is not UTF-8 text (its header has zero bytes); save it as UTF-8")
    separator = max(",;\t", key=text.count)
    try:
        names = tuple(name.strip() for name in next(csv.reader([text], delimiter=separator, skipinitialspace=True), []))
    except csv.Error as error:
        raise DataError(f"{path}: its header is not CSV ({error}); it should be {','.join(PUBLISHED)}") from error
    while names and not names[-1]:
        names = names[:-1]
    emotion, pixels, usage = (_index(names, wanted) for wanted in PUBLISHED)
    has = f"its columns are {', '.join(name or '(blank)' for name in names)[:200]!r}"
    if {"neutral", "contempt", "nf"} <= {name.lower() for name in names}:
        raise DataError(f"{path}: holds FER+'s votes and no image; pack FER2013's CSV, with --votes {path}")
    if len(names) > 1 and all(re.fullmatch(r"[\d\s.]+|" + "|".join(USAGES), name) for name in names):
        raise DataError(f"{path}: has no header; its first line should be {','.join(PUBLISHED)}")
    if pixels is None:
        raise DataError(
            f"{path}: has no column pixels; {has}, and FER2013's CSV has {', '.join(PUBLISHED)}; "
            f"a list of image files has columns such as image and label"
        )
    if emotion is None:
        raise DataError(
            f"{path}: has no column emotion, so its images have no labels and nothing can be trained or tested on them "
            f"({has}); write them to image files, and classify those with `fer-ddp predict`"
        )
    return Header(names=names, separator=separator, columns=(emotion, pixels, usage))


def is_published_form(header: Header, first_row: bytes, scheme: LabelScheme) -> bool:
    """Whether the file is as FER2013's is published, by its header and its first row, so that it is read as it is."""
    if header.separator != "," or sorted(map(str.lower, header.names)) != sorted(map(str.lower, PUBLISHED)):
        return False
    text = first_row.decode(errors="replace")
    fields = [field.strip() for field in text.split(",")]
    if '"' in text or "[" in text:
        return False
    emotion, _, usage = header.columns
    if len(fields) != len(PUBLISHED) or usage is None:
        return True  # a bad row, which the parser names
    label, split = fields[emotion], fields[usage]
    return label_text(label, scheme) in (label, None) and published_usage(split) in (split, None)


def rewrite(source: Path, target: Path, header: Header, scheme: LabelScheme, shown: Path) -> list[Reject]:
    """Write ``source`` to ``target`` in the published form, row for row; a row that cannot be used has no content.

    Returns the rows that have no label or split, or another number of fields. They stay rows, since votes are joined by
    the order of the rows. Pixels are not looked at. Raises :class:`DataError`, which calls the file ``shown``, if it is
    not CSV.
    """
    csv.field_size_limit(_LONGEST_FIELD)
    rejects: list[Reject] = []
    number = -1
    with (
        open(source, encoding="utf-8-sig", errors="surrogateescape", newline="", opener=only_regular) as file,
        open(target, "w", encoding="utf-8", errors="surrogateescape", newline="") as out,
    ):
        out.write(",".join(PUBLISHED) + "\n")
        rows = csv.reader(file, delimiter=header.separator)
        try:
            for number, fields in enumerate(rows):
                if number == 0:
                    continue  # the header
                text = ""
                if any(field.strip() for field in fields):
                    try:
                        text = _published_row(fields, header, scheme)
                    except BadRow as error:
                        text = _NO_CONTENT
                        rejects.append(Reject(place=f"row {number}", reason=str(error)))
                out.write(text + "\n")
        except csv.Error as error:
            raise DataError(f"{shown}: row {number + 1} is not CSV ({error}); is a quote there not closed?") from error
    return rejects


def _published_row(fields: list[str], header: Header, scheme: LabelScheme) -> str:
    """A row in the published form. Raises :class:`BadRow`."""
    while len(fields) > len(header.names) and not fields[-1].strip():
        fields = fields[:-1]
    if header.is_repeated_by(fields):
        raise BadRow(REPEATED)
    if len(fields) != len(header.names):
        raise BadRow(f"has {plural(len(fields), 'field')}; it should have {len(header.names)}, as the header has")
    emotion, pixels, usage = header.columns
    label = label_text(fields[emotion], scheme)
    if label is None:
        raise BadRow(wrong_label(header.name(0), fields[emotion], scheme))
    split = "Training" if usage is None else published_usage(fields[usage])
    if split is None:
        assert usage is not None
        raise BadRow(wrong_usage(header.name(2), fields[usage]))
    return f"{label},{_plain_pixels(fields[pixels])},{split}"


REPEATED = "is the header again, as where two files were joined; remove it"


def wrong_label(column: str, text: str, scheme: LabelScheme) -> str:
    """What is wrong with the label ``text``, and what would be right."""
    first, last = scheme.first_label, scheme.first_label + len(scheme.class_names) - 1
    return (
        f"{column} is {text.strip()[:40]!r}; it should be a label from {first} to {last} ({scheme.describe()}); "
        f"labels of another data set need its --scheme"
    )


def wrong_usage(column: str, text: str) -> str:
    """What is wrong with the split ``text``, and what would be right."""
    return f"{column} is {text.strip()[:40]!r}; it should be {', '.join(USAGES)}"


def wrong_fields(count: int) -> str:
    """What is wrong with a row of ``count`` fields in the published form."""
    return f"has {plural(count, 'field')}; it should have emotion, pixels and Usage"


def label_text(text: str, scheme: LabelScheme) -> str | None:
    """The number of the label ``text``, which may be a float (``3.0``) or a class name; None if it is neither."""
    meaning = scheme.meaning_of(text)
    return None if meaning not in scheme.class_names else str(scheme.first_label + scheme.class_names.index(meaning))


def published_usage(text: str) -> str | None:
    """The published name of a split."""
    return _USAGE_OF.get(split_of_word(text) or "")


def _plain_pixels(text: str) -> str:
    """Pixels with one blank between two, of a list or an array that Python has printed."""
    if text[:1].isdigit() and not any(mark in text for mark in ",;.\n"):
        return text
    if "." in text:
        text = re.sub(r"(?<=\d)\.0*(?!\d)", "", text)
    for mark in "[](),;":
        text = text.replace(mark, " ")
    return " ".join(text.split())


def _index(names: Sequence[str], wanted: str) -> int | None:
    plain = [name.lower() for name in names]
    return next((plain.index(name) for name in _NAMES[wanted] if name in plain), None)
