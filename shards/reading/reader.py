"""Reads a split into memory: shards in order, every byte checked against the manifest."""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import TypeVar

import numpy as np

from shards.errors import DataError
from shards.files import read_regular
from shards.manifest import Manifest, Shard
from shards.parallel import ordered_map, worker_pool
from shards.reading.content import Content
from shards.reading.scan import load_or_scan_manifest

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodedSplit:
    """The samples of a split, or of one of its shards, in the order of the shards."""

    images: np.ndarray
    """uint8, (samples, channels, height, width)."""
    labels: np.ndarray
    """int64, (samples,)."""
    keys: list[str]
    """Each sample's name: its row or file in the source."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadShard:
    """What was read of one shard, besides its pixels."""

    labels: np.ndarray
    """int64, (samples,)."""
    offsets: np.ndarray
    """Where each image's file begins in the tar: int64, (samples,)."""
    sizes: np.ndarray
    """How many bytes it has: int64, (samples,)."""
    keys: list[str]


def read_split(folder: Path, split: str, workers: int = 1, manifest: Manifest | None = None) -> DecodedSplit:
    """Read and decode one split of the data set in ``folder``.

    ``manifest`` saves reading it again; a folder without one is scanned (:func:`shards.reading.scan.scan_folder`).
    ``workers`` threads decode the shards; the result is the same. Raises :class:`DataError` naming the file if a
    shard is missing, damaged, cut short or does not match the manifest.
    """
    refuse_url(str(folder))
    folder = Path(folder)
    manifest = manifest or load_or_scan_manifest(folder)
    shards = manifest.split(split, folder).shards
    check_sizes(folder, shards)
    images = np.empty((sum(shard.samples for shard in shards), *manifest.image_shape), np.uint8)
    labels = np.empty(len(images), np.int64)
    keys: list[str] = []
    for shard in read_shards(folder, split, manifest, workers, images):
        labels[len(keys) : len(keys) + len(shard.keys)] = shard.labels
        keys += shard.keys
    return DecodedSplit(images=images, labels=labels, keys=keys)


def read_shards(
    folder: Path, split: str, manifest: Manifest, workers: int, images: np.ndarray | None
) -> Iterator[ReadShard]:
    """Read a split's shards, every byte checked, and decode its images into ``images`` if that is given.

    ``images``: uint8, (samples, channels, height, width), to be filled, or None to read where the images are but not
    their pixels. ``workers`` threads do it: reading, hashing and copying release Python's lock, and threads, unlike
    processes, start at once and end with the program. Raises as :func:`read_split`.
    """
    shards = manifest.split(split, folder).shards
    ends = accumulate(shard.samples for shard in shards)
    tasks = [
        (folder, shard, manifest, None if images is None else images[end - shard.samples : end])
        for shard, end in zip(shards, ends, strict=True)
    ]
    yield from ordered_map(_read_shard, tasks, threads=max(1, min(workers, len(tasks))))


def refuse_url(path: str) -> None:
    """Refuse ``pipe:``, ``s3:`` and the like; WebDataset hands ``pipe:`` to a shell. Raises :class:`DataError`."""
    if re.match(r"[A-Za-z][A-Za-z0-9+]+:", path):
        raise DataError(f"{path}: is an address with a scheme; it should be a folder on this machine", exit_status=2)


def check_sizes(folder: Path, shards: Sequence[Shard]) -> None:
    """Raise :class:`DataError` for a shard whose size is not the manifest's, before what it says is given memory."""
    for shard in shards:
        path = folder / shard.name
        try:
            size = path.stat().st_size
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}), and the manifest names it") from error
        if size != shard.bytes:
            raise DataError(f"{path}: has {size} bytes, the manifest says {shard.bytes}; copy or pack it again")


def read_shard(folder: Path, shard: Shard) -> bytes:
    """The bytes of a shard, checked against its size and sha256. Raises :class:`DataError` naming the file."""
    path = folder / shard.name
    check_sizes(folder, [shard])
    try:
        content = read_regular(path, at_most=shard.bytes)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}), and the manifest names it") from error
    if hashlib.sha256(content).hexdigest() != shard.sha256:
        raise DataError(
            f"{path}: its sha256 is not the manifest's, so it or manifest.json is damaged; copy or pack the data again"
        )
    return content


def map_shards(
    function: Callable[[DecodedSplit], Result], folder: Path, split: str, manifest: Manifest, workers: int = 1
) -> Iterator[Result]:
    """``function`` of each shard's samples, in order; with ``workers`` > 1 called in that many processes.

    Raises :class:`DataError` as :func:`read_split` does.
    """
    shards = manifest.split(split, folder).shards
    task = partial(_call_with_shard, function, folder, manifest)
    if workers <= 1 or len(shards) <= 1:
        yield from map(task, shards)
        return
    try:
        with worker_pool(min(workers, len(shards))) as pool:
            yield from pool.map(task, shards)
    except BrokenProcessPool as error:
        raise DataError("a process that read the shards was killed, perhaps for lack of memory") from error


def _call_with_shard(
    function: Callable[[DecodedSplit], Result], folder: Path, manifest: Manifest, shard: Shard
) -> Result:
    check_sizes(folder, [shard])
    images = np.empty((shard.samples, *manifest.image_shape), np.uint8)
    read = _read_shard((folder, shard, manifest, images))
    return function(DecodedSplit(images=images, labels=read.labels, keys=read.keys))


_Task = tuple[Path, Shard, Manifest, np.ndarray | None]


def _read_shard(task: _Task) -> ReadShard:
    folder, shard, manifest, images = task
    path = str(folder / shard.name)
    content = Content(read_shard(folder, shard), path)
    if len(content.keys) != shard.samples:
        raise DataError(f"{path}: holds {len(content.keys)} samples, the manifest says {shard.samples}")
    labels = content.labels()
    classes = len(manifest.class_names)
    if len(labels) and labels.max() >= classes:
        key = content.keys[int(labels.argmax())]
        raise DataError(f"{path}: {key} has label {labels.max()}; it should be from 0 to {classes - 1}")
    if images is not None:
        content.pixels(manifest.image_shape, images)
    return ReadShard(labels=labels, offsets=content.image_offsets, sizes=content.image_sizes, keys=content.keys)
