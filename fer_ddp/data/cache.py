"""Splits that are decoded or indexed once a machine, on its local disk, for all ranks and jobs there."""

import json
import math
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fer_ddp.data.cache_folder import cache_folder, hold_entry, make_room, no_room
from fer_ddp.errors import RunError
from fer_ddp.signals import check_stopped
from shards.errors import DataError
from shards.files import FileLock, sha256_of, write_json
from shards.manifest import Manifest
from shards.parallel import usable_cpus
from shards.reading.reader import check_sizes
from shards.reading.split_index import SplitIndex, write_index
from shards.reading.votes import read_votes

_CHECKED, _VOTES = "checked.json", "votes.npy"
_SHARD_BYTES_AT_ONCE = 2**31
_Read = TypeVar("_Read")


def cached_split(folder: Path, split: str, manifest: Manifest, *, pixels: bool) -> SplitIndex:
    """The index of a split, with its decoded ``pixels`` or without, written by the first process that asks.

    The others wait for a lock, which is released when its process ends; unfinished files are then written again.
    Raises shards' DataError for data that can't be used, RunError if the cache can't be written.
    """
    if split not in manifest.splits:
        raise DataError(f"{folder}: has no {split} split; it has {', '.join(manifest.splits)}")

    def write(out: Path) -> None:
        largest = max(shard.bytes for shard in manifest.splits[split].shards)
        workers = min(usable_cpus(), max(1, _SHARD_BYTES_AT_ONCE // largest))
        write_index(folder, split, manifest, out, workers=workers, pixels=pixels)

    name = split if pixels else f"{split}-index"

    def size() -> int:
        check_sizes(folder, manifest.splits[split].shards)  # before room is made for what the manifest says
        return manifest.splits[split].samples * (math.prod(manifest.image_shape) if pixels else 24)

    return _cached(folder, name, manifest, size, write, SplitIndex.read, "the decoded split")


def cached_votes(folder: Path, split: str, manifest: Manifest, keys: Sequence[str]) -> np.ndarray:
    """FER+'s votes on a split's samples, whose ``keys`` are in the order of its index: int64 (samples, 10), or zeros.

    Read from the shards by the first process that asks, as `cached_split` does and with its errors.
    """

    def write(out: Path) -> None:
        np.save(out / _VOTES, read_votes(folder, split, manifest, keys))

    def read(path: Path) -> np.ndarray:
        votes: np.ndarray = np.load(path / _VOTES)
        return votes

    return _cached(folder, f"{split}-votes", manifest, lambda: 0, write, read, "FER+'s votes")


def _cached(
    folder: Path,
    name: str,
    manifest: Manifest,
    size: Callable[[], int],
    write: Callable[[Path], None],
    read: Callable[[Path], _Read],
    what: str,
) -> _Read:
    """Read ``name`` of the data set in ``folder`` from the cache, after writing its ``size()`` bytes if need be."""
    target = cache_folder() / manifest.digest[:32] / name
    try:
        entry = hold_entry(manifest.digest, folder)
        held = entry.lstat()
        with FileLock(target.with_suffix(".lock"), while_waiting=check_stopped):
            if not _is_intact(target, manifest):
                make_room(target.parents[1], size())
                _make(target, manifest, write)
        opened = read(target)
        if not os.path.samestat(held, entry.lstat()):
            raise RunError(f"{entry}: was replaced while it was read; see who may write to {entry.parent}")
        return opened
    except OSError as error:
        raise no_room(target, what, error) from None


def _make(target: Path, manifest: Manifest, write: Callable[[Path], None]) -> None:
    beside = target.with_suffix(".tmp")
    for old in (target, beside):
        shutil.rmtree(old, ignore_errors=True)
    beside.mkdir()
    try:
        write(beside)
    except DataError:
        shutil.rmtree(beside)
        raise
    digests = {path.name: sha256_of(path) for path in sorted(beside.iterdir())}
    os.replace(beside, target)
    _write_checked(target, manifest, digests)


def _write_checked(target: Path, manifest: Manifest, digests: dict[str, str]) -> None:
    checked = {"data": manifest.digest, "name": target.name, "sha256": digests, "state": _state(target, digests)}
    write_json(target / _CHECKED, checked)


def _is_intact(target: Path, manifest: Manifest) -> bool:
    """Whether the files are those that were written here for this data set; a crash of the machine may have lost some.

    All are hashed, but only once after each boot, unless the file system shows that one was written to.
    """
    try:
        checked = json.loads((target / _CHECKED).read_text())
        digests = checked["sha256"]
        if (checked["data"], checked["name"]) != (manifest.digest, target.name):
            return False
        if _state(target, digests) == checked["state"]:
            return True
        if any(sha256_of(target / name) != digest for name, digest in digests.items()):
            return False
        _write_checked(target, manifest, digests)
        return True
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _state(target: Path, names: Any) -> list[Any]:
    """Changes when the machine reboots or one of the files is written to."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    files = [os.stat(target / name) for name in sorted(names)]
    return [
        boot.read_text() if boot.exists() else os.urandom(8).hex(),
        *([file.st_ino, file.st_size, file.st_mtime_ns, file.st_ctime_ns] for file in files),
    ]
