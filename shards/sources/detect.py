"""Which source a path is."""

from functools import partial
from pathlib import Path

from shards.errors import DataError
from shards.packer import Source
from shards.sources.fer_csv import scan_csv


def source_of(path: Path, source_format: str, votes: Path | None) -> Source:
    """The source that reads ``path``; ``source_format`` is ``auto``, ``csv`` or ``folders``."""
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder.", exit_status=2)
    return partial(scan_csv, path)
