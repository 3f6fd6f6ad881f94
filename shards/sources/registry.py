"""The sources by name: what ``--format`` offers, and which of them a path is."""

import csv
import dataclasses
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from shards.errors import DataError
from shards.files import irregular
from shards.images import ImageOptions
from shards.labels import FERPLUS, did_you_mean
from shards.sources import affectnet, expw, ferplus_folders, list_csv, raf_db
from shards.sources.fer2013_csv import holds_pixels, scan_csv
from shards.sources.ferplus_votes import scan_with_votes
from shards.sources.file_names import CK_PLUS_FILES, JAFFE_FILES, KDEF_FILES
from shards.sources.file_sets import is_pattern
from shards.sources.image_folders import list_folders
from shards.sources.listed_images import scan_listing
from shards.sources.listing import Listing, SourceOptions
from shards.sources.parquet import is_parquet, list_parquet
from shards.sources.scan import Source, SourceScan
from shards.sources.webdataset_tars import is_tars, list_tars


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFormat:
    """A kind of source."""

    matches: Callable[[Path], bool]
    """Whether a path, which exists, looks like one; asked in the order of :data:`SOURCES`."""
    layout: str
    """What it looks like, for messages."""
    lists: Callable[[Path, SourceOptions], Listing]
    """Reads everything but the images."""
    has_fields: bool = False
    """Whether a sample has named fields, one of which ``--label-field`` may name."""
    has_classes_by_name: bool = False
    """Whether names alone tell its classes, so that ``--allow-class`` may keep one."""


def _scan(
    lists: Callable[[Path, SourceOptions], Listing],
    path: Path,
    options: SourceOptions,
    work: Path,
    pool: Executor,
    workers: int,
) -> SourceScan:
    try:
        listing = lists(path, dataclasses.replace(options, work=work))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: has a list that is not UTF-8 ({error.reason}); save it as UTF-8") from error
    except csv.Error as error:
        raise DataError(f"{path}: has a list that is not CSV ({error}); save it again") from error
    return scan_listing(listing, pool, workers, options.images)


SOURCES: dict[str, SourceFormat] = {
    "webdataset": SourceFormat(
        matches=is_tars,
        layout="a tar, a folder of tars, or train-{000000..000003}.tar",
        lists=list_tars,
        has_fields=True,
        has_classes_by_name=True,
    ),
    "parquet": SourceFormat(
        matches=is_parquet,
        layout="a Parquet file with images and labels, or a folder of them",
        lists=list_parquet,
        has_fields=True,
        has_classes_by_name=True,
    ),
    **{
        name: SourceFormat(matches=source.matches, layout=source.LAYOUT, lists=source.list_images)
        for name, source in (
            ("rafdb", raf_db),
            ("affectnet", affectnet),
            ("ferplus", ferplus_folders),
            ("expw", expw),
        )
    },
    **{
        files.source_format: SourceFormat(matches=files.matches, layout=files.layout, lists=files.list)
        for files in (KDEF_FILES, JAFFE_FILES, CK_PLUS_FILES)
    },
    "list": SourceFormat(
        matches=list_csv.matches, layout=list_csv.LAYOUT, lists=list_csv.list_images, has_classes_by_name=True
    ),
    # Any folder is taken for class folders, so these come last.
    "folders": SourceFormat(
        matches=Path.is_dir, layout="SPLIT/CLASS/IMAGE", lists=list_folders, has_classes_by_name=True
    ),
}
FORMATS = ("auto", "csv", *SOURCES)
"""``csv`` is FER2013's, the one source whose images are not files; ``auto`` is the first that matches."""


def source_of(
    path: Path, name: str = "auto", votes: Path | None = None, options: SourceOptions | None = None
) -> Source:
    """The source that reads ``path``; ``name`` is one of :data:`FORMATS`. Raises :class:`DataError` (exit status 2)."""
    options = options or SourceOptions()
    if name not in FORMATS:
        hint = did_you_mean(name, FORMATS)
        raise DataError(
            f"--format {name}: there is no such source{hint}; it should be {', '.join(FORMATS)}", exit_status=2
        )
    if not path.exists() and not is_pattern(path):
        raise DataError(f"{path}: there is no such file or folder", exit_status=2)
    if path.exists() and not path.is_dir() and not path.is_file():  # it may never end
        raise DataError(f"{path}: is {irregular(path)}, not a file; save what it gives as a file first", exit_status=2)
    if name == "auto":
        name = "csv" if holds_pixels(path) else _first_match(path) or "csv"
    elif name != "csv" and not SOURCES[name].matches(path):
        raise DataError(f"{path}: is not what --format {name} reads: {SOURCES[name].layout}", exit_status=2)
    elif name == "csv" and path.is_dir() and not holds_pixels(path):
        raise DataError(f"{path}: is a folder without a CSV of pixels, which --format csv reads", exit_status=2)
    if name == "csv":
        return _csv_source(path, votes, options)
    if votes is not None:
        raise DataError("--votes belong to FER2013's CSV, row by row; they cannot be joined to folders", exit_status=2)
    source = SOURCES[name]
    if options.label_field is not None and not source.has_fields:
        raise _no_fields(path, name)
    if options.allowed_classes and not source.has_classes_by_name:
        raise DataError(f"--allow-class: {path} is read as {name}, which has its own classes", exit_status=2)
    return partial(_scan, source.lists, path, options)


def _csv_source(path: Path, votes: Path | None, options: SourceOptions) -> Source:
    """FER2013's CSV, with ``votes``. Raises :class:`DataError` (exit status 2) for options that are not for it."""
    if options.label_field is not None:
        raise _no_fields(path, "csv")
    if options.allowed_classes:
        raise DataError("--allow-class is for class folders; a CSV has FER2013's classes", exit_status=2)
    if options.images != ImageOptions():
        flags = "--size, --grey, --rgb, --crop and --pad"
        raise DataError(f"{flags} are for image files; the pixels of {path} are packed as they are", exit_status=2)
    give_labels = votes is not None and options.scheme == FERPLUS  # the column of labels is FER2013's then
    scan = partial(scan_csv, path, None if give_labels else options.scheme, has_votes=votes is not None)
    return scan if votes is None else partial(scan_with_votes, scan, votes, give_labels)


def _no_fields(path: Path, name: str) -> DataError:
    with_fields = " and ".join(known for known, source in SOURCES.items() if source.has_fields)
    return DataError(
        f"--label-field is for {with_fields}; {path} is read as {name}, which has no such fields", exit_status=2
    )


def _first_match(path: Path) -> str | None:
    return next((name for name, source in SOURCES.items() if source.matches(path)), None)
