"""Splits that are decoded or indexed once a machine, on its local disk, for all ranks and jobs there."""

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from fer_ddp.errors import RunError
from shards.errors import DataError
from shards.files import FileLock, atomic_write_bytes, sha256_of, write_json
from shards.manifest import Manifest
from shards.parallel import usable_cpus
from shards.reading.split_index import SplitIndex, write_index
from shards.reading.votes import read_votes

_CHECKED = "checked.json"
_SHARD_BYTES_AT_ONCE = 2**31


def cache_folder() -> Path:
    """Where decoded splits are kept: ``FER_DDP_CACHE``, ``XDG_CACHE_HOME``, or a folder of this user on the local disk.

    Raises RunError if the last, whose name anybody can foresee, is another user's: what is in it is not to be trusted.
    """
    for name in ("FER_DDP_CACHE", "XDG_CACHE_HOME"):
        if os.environ.get(name):
            return Path(os.environ[name]) / ("" if name == "FER_DDP_CACHE" else "fer_ddp")
    if os.name == "nt":  # the temporary folder is the user's own there
        return Path(tempfile.gettempdir()) / "fer_ddp"
    folder = Path(tempfile.gettempdir()) / f"fer_ddp-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise no_room(folder, "decoded splits", error) from None
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o022:
        raise RunError(
            f"{folder}: is a link, or belongs to another user or can be written by one, so decoded splits are not kept "
            f"there; remove it, or set FER_DDP_CACHE to a folder of your own on a local disk"
        )
    return folder


def cached_split(folder: Path, split: str, manifest: Manifest, *, pixels: bool) -> SplitIndex:
    """The index of a split, with its decoded ``pixels`` or without, written by the first process that asks.

    The others wait for a lock, which is released when its process ends; unfinished files are then written again.
    Raises shards' DataError for data that can't be used, RunError if the cache can't be written.
    """
    if split not in manifest.splits:
        raise DataError(f"{folder}: has no {split} split; it has {', '.join(manifest.splits)}")
    target = cache_folder() / manifest.digest[:32] / (split if pixels else f"{split}-index")
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(target.with_suffix(".lock")):
            if not _is_intact(target):
                _make(folder, split, manifest, target, pixels)
        return SplitIndex.read(target)
    except OSError as error:
        raise no_room(target, "the decoded split", error) from None


def cached_votes(folder: Path, split: str, manifest: Manifest, keys: Sequence[str]) -> np.ndarray:
    """FER+'s votes on a split's samples, whose ``keys`` are in the order of its index: int64 (samples, 10), or zeros.

    Read from the shards by the first process that asks, as `cached_split` does and with its errors.
    """
    target = cache_folder() / manifest.digest[:32] / f"{split}-votes.npy"
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(target.with_suffix(".lock")):
            votes = _loaded_votes(target)
            if votes is None or len(votes) != len(keys):
                votes = read_votes(folder, split, manifest, keys)
                content = BytesIO()
                np.save(content, votes)
                atomic_write_bytes(target, content.getvalue())
        return votes
    except OSError as error:
        raise no_room(target, "FER+'s votes", error) from None


def _loaded_votes(path: Path) -> np.ndarray | None:
    try:
        votes: np.ndarray = np.load(path)
    except (FileNotFoundError, ValueError, EOFError):
        return None
    return votes


def no_room(target: Path, what: str, error: OSError) -> RunError:
    """The error for ``what`` that could not be written to ``target``, in the cache folder."""
    return RunError(
        f"{target}: {what} can't be kept there ({error.strerror or error}); "
        f"set FER_DDP_CACHE to a folder with room on a local disk"
    )


def _make(folder: Path, split: str, manifest: Manifest, target: Path, pixels: bool) -> None:
    beside = target.with_suffix(".tmp")
    for old in (target, beside):
        shutil.rmtree(old, ignore_errors=True)
    beside.mkdir()
    largest = max(shard.bytes for shard in manifest.splits[split].shards)
    workers = min(usable_cpus(), max(1, _SHARD_BYTES_AT_ONCE // largest))
    try:
        write_index(folder, split, manifest, beside, workers=workers, pixels=pixels)
    except DataError:
        shutil.rmtree(beside)
        raise
    names = sorted(path.name for path in beside.iterdir())
    digests = {name: sha256_of(beside / name) for name in names}
    os.replace(beside, target)
    write_json(target / _CHECKED, {"sha256": digests, "state": _state(target, names)})


def _is_intact(target: Path) -> bool:
    """Whether the files are those that were written; a crash of the machine may have lost some.

    All are hashed, but only once after each boot, unless the file system shows that one was written to.
    """
    try:
        checked = json.loads((target / _CHECKED).read_text())
        digests = checked["sha256"]
        state = _state(target, digests)
        if state == checked["state"]:
            return True
        if any(sha256_of(target / name) != digest for name, digest in digests.items()):
            return False
        write_json(target / _CHECKED, {"sha256": digests, "state": state})
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
