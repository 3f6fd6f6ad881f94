"""A manifest for a WebDataset folder from elsewhere, which has none."""

import hashlib
import os
import shlex
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import numpy as np

from shards.errors import DataError
from shards.files import read_lines, read_regular
from shards.manifest import (
    FILE_NAME,
    MAX_CLASSES,
    SCHEMA_VERSION,
    Duplicates,
    Manifest,
    Shard,
    Split,
    class_names_fault,
    data_sets_in,
    read_manifest,
)
from shards.pixel_statistics import mean_and_std, pixel_sums
from shards.reading.content import Content
from shards.splits import SPLIT_FOLDERS, SPLITS, split_in_name

_GZIP = (".tar.gz", ".tgz")
_ENDINGS = (".tar", ".parquet", *_GZIP)
_LARGEST_TAR = 1 << 30
"""Of those that are read as they are, each in memory."""


def load_or_scan_manifest(folder: Path) -> Manifest:
    """The manifest of ``folder``: its own, or else by a scan of its tars.

    Raises :class:`DataError`, which names ``fer-ddp pack`` where ``folder`` is or holds what that can read.
    """
    if not folder.is_dir() or os.path.lexists(folder / FILE_NAME):
        return read_manifest(folder)
    if not data_sets_in(folder):
        _refuse_unpacked(folder)
    if any(folder.glob("*.tar")):
        return _scanned(folder.resolve(), tuple(map(_state, sorted(folder.iterdir()))))
    return read_manifest(folder)


def _state(path: Path) -> tuple[str, int, int]:
    """What differs once ``path`` has changed."""
    found = path.lstat()
    with suppress(OSError):  # of a link to nothing, or to itself
        found = path.stat()
    return path.name, found.st_size, found.st_mtime_ns


def _refuse_unpacked(folder: Path) -> None:
    """Raise :class:`DataError` (exit status 2) for a folder of tars or tables that have to be packed first."""
    if any(folder.glob("*.tar")):  # the compressed ones would be left out
        found = next((one for one in folder.iterdir() if one.name.endswith(_GZIP) and split_in_name(one.name)), None)
        what = f"holds {found.name}, which is compressed" if found else ""
    else:
        inside = (one for depth in ("*", "*/*") for one in folder.glob(depth) if one.name.lower().endswith(_ENDINGS))
        found = next(inside, None)
        what = f"holds {found.relative_to(folder)}, which is not read as it is" if found else ""
    if what:
        quoted = shlex.quote(str(folder))
        raise DataError(
            f"{folder}: {what}; pack it first with `fer-ddp pack {quoted} OUT`, and give the folder OUT", exit_status=2
        )


@lru_cache(maxsize=2)
def _scanned(folder: Path, states: tuple[tuple[str, int, int], ...]) -> Manifest:
    """A scan reads everything, so a process scans a folder once as long as its files do not change."""
    return scan_folder(folder)


def scan_folder(folder: Path) -> Manifest:
    """Read all of ``folder/*.tar`` and describe it; nothing is written.

    A tar's split is the one in its name (``train``, ``val`` or ``valid``, ``test``). Class names are the lines of
    ``classes.txt``, in label order, or else ``class-0``, ``class-1``, ... Duplicates are not counted. Raises
    :class:`DataError` for a folder without training tars, and for a tar that cannot be read.
    """
    by_split: dict[str, list[Path]] = {split: [] for split in SPLITS}
    for path in sorted(folder.glob("*.tar")):
        by_split[_split_of(path)].append(path)
    if not by_split["train"]:
        raise DataError(f"{folder}: has no tar with train in its name, so it cannot be used to train")
    shape: tuple[int, int, int] | None = None
    shards: dict[str, list[Shard]] = {}
    labels: dict[str, list[np.ndarray]] = {}
    sums, square_sums = [], []
    for split, paths in by_split.items():
        for path in paths:
            data = _content(path)
            content = Content(data, str(path))
            if not content.keys:
                raise DataError(f"{path}: holds no sample; remove it")
            shape = shape or content.shape()
            if split == "train":
                one_sums, one_square_sums = pixel_sums(content.pixels(shape))
                sums.append(one_sums)
                square_sums.append(one_square_sums)
            labels.setdefault(split, []).append(content.labels())
            sha256 = hashlib.sha256(data).hexdigest()
            shards.setdefault(split, []).append(
                Shard(name=path.name, samples=len(content.keys), bytes=len(data), sha256=sha256)
            )
    assert shape is not None
    mean, std = mean_and_std(np.concatenate(sums), np.concatenate(square_sums), shape[1] * shape[2])
    names = _class_names(folder, max(int(one.max()) for parts in labels.values() for one in parts) + 1)
    splits = {}
    for split, members in shards.items():
        counts = np.bincount(np.concatenate(labels[split]), minlength=len(names)).tolist()
        splits[split] = Split(shards=tuple(members), samples=sum(counts), class_counts=tuple(counts))
    everything = "".join(shard.sha256 for split in splits.values() for shard in split.shards)
    return Manifest(
        schema_version=SCHEMA_VERSION,
        class_names=names,
        image_shape=shape,
        mean=mean,
        std=std,
        splits=splits,
        duplicates=Duplicates(within={}, across={}, conflicting_groups={}),
        source_format="webdataset-folder",
        source_sha256=hashlib.sha256(everything.encode()).hexdigest(),
        rejects=0,
        votes=None,
        options={},
    )


def _content(path: Path) -> bytes:
    try:
        return read_regular(path, at_most=_LARGEST_TAR)
    except OSError as error:
        raise DataError(
            f"{path}: {error.strerror or error}; `fer-ddp pack {path.parent} OUT` reads large tars"
        ) from None


def _split_of(path: Path) -> str:
    split = split_in_name(path.name)
    if split is None:  # trainset.tar
        prefixes = sorted(SPLIT_FOLDERS, key=len, reverse=True)
        split = next((SPLIT_FOLDERS[prefix] for prefix in prefixes if path.name.lower().startswith(prefix)), None)
    if split is None:
        raise DataError(
            f"{path}: does not belong to a split; its name should have train, val or test in it "
            f"(`fer-ddp pack {path.parent} OUT` reads tars without)"
        )
    return split


def _class_names(folder: Path, needed: int) -> tuple[str, ...]:
    path = folder / "classes.txt"
    if not os.path.lexists(path):
        if needed > MAX_CLASSES:
            raise DataError(f"{folder}: its tars hold label {needed - 1}; labels should be from 0 to {MAX_CLASSES - 1}")
        return tuple(f"class-{label}" for label in range(needed))
    names = tuple(line.strip() for line in read_lines(path) if line.strip())
    if len(names) < needed:
        raise DataError(
            f"{path}: names {len(names)} classes, but the tars hold label {needed - 1}; "
            f"it should have a line for each class"
        )
    fault = class_names_fault(names)
    if fault is not None:
        raise DataError(f"{path}: {fault}")
    return names
