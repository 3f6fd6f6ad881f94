"""The sources by name: what ``--format`` offers, and which of them a path is."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from shards.errors import DataError
from shards.sources.fer2013_csv import scan_csv
from shards.sources.ferplus_votes import scan_with_votes
from shards.sources.image_folders import scan_folders
from shards.sources.scan import Source, SourceScan


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFormat:
    """A kind of source."""

    scan: Callable[..., SourceScan]
    """Called with the path and the arguments of a :data:`shards.sources.scan.Source`."""
    is_folder: bool
    """Whether it reads a folder, else a file."""
    takes_votes: bool = False
    """Whether FER+'s votes can be joined to it, row by row."""
    has_class_folders: bool = False
    """Whether folders name its classes, so that a stray folder would be one, unless it is refused."""


SOURCES = {
    "csv": SourceFormat(scan=scan_csv, is_folder=False, takes_votes=True),
    "folders": SourceFormat(scan=scan_folders, is_folder=True, has_class_folders=True),
}
FORMATS = ("auto", *SOURCES)
"""``auto`` is the first of :data:`SOURCES` that reads what the path is: a file or a folder."""


def source_of(
    path: Path, name: str = "auto", votes: Path | None = None, allowed_classes: Collection[str] = ()
) -> Source:
    """The source that reads ``path``; ``name`` is one of :data:`FORMATS`.

    ``allowed_classes`` are kept where a class of folders would be refused as a mistake. Raises :class:`DataError` (exit
    status 2).
    """
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder", exit_status=2)
    if name == "auto":
        name = next(known for known, source in SOURCES.items() if source.is_folder == path.is_dir())
    source = SOURCES[name]
    if source.is_folder != path.is_dir():
        kind = "a folder" if path.is_dir() else "a file"
        raise DataError(f"{path}: is {kind}, which --format {name} cannot read", exit_status=2)
    if source.has_class_folders:
        scan = partial(source.scan, path, allowed_classes=allowed_classes)
    elif allowed_classes:
        raise DataError("--allow-class is for class folders; a CSV has FER2013's classes", exit_status=2)
    else:
        scan = partial(source.scan, path)
    if votes is None:
        return scan
    if not source.takes_votes:
        raise DataError("--votes belong to FER2013's CSV, row by row; they cannot be joined to folders", exit_status=2)
    return partial(scan_with_votes, scan, votes)
