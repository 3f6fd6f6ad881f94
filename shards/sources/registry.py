"""Which source a path is."""

from concurrent.futures import Executor
from functools import partial
from pathlib import Path

from shards.errors import DataError
from shards.packing.packer import Source
from shards.sources.fer2013_csv import scan_csv
from shards.sources.ferplus_votes import with_votes
from shards.sources.image_folders import scan_folders
from shards.sources.scan import Scanned

FORMATS = ("auto", "csv", "folders")


def source_of(path: Path, source_format: str = "auto", votes: Path | None = None) -> Source:
    """What reads ``path``; ``source_format`` is one of :data:`FORMATS`. Raises :class:`DataError` (exit status 2)."""
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder", exit_status=2)
    if source_format == "auto":
        source_format = "folders" if path.is_dir() else "csv"
    if (source_format == "folders") != path.is_dir():
        what = "a folder" if path.is_dir() else "a file"
        raise DataError(f"{path}: is {what}, which --format {source_format} cannot read", exit_status=2)
    if source_format == "csv":
        return partial(_scan_csv_with_votes, path, votes) if votes is not None else partial(scan_csv, path)
    if votes is not None:
        raise DataError("--votes belong to FER2013's CSV, row by row; they cannot be joined to folders", exit_status=2)
    return partial(scan_folders, path)


def _scan_csv_with_votes(path: Path, votes: Path, work: Path, pool: Executor, workers: int) -> Scanned:
    return with_votes(scan_csv(path, work, pool, workers), votes)
