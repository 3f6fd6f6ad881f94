"""Reads a split into memory: shards in order, every byte checked against the manifest."""

import hashlib
import re
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from shards.errors import DataError
from shards.manifest import Manifest, Shard
from shards.processes import worker_pool
from shards.scan import manifest_of
from shards.shard_content import Content

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


def read_split(folder: Path, split: str, workers: int = 1, manifest: Manifest | None = None) -> DecodedSplit:
    """Read and decode one split of the data set in ``folder``.

    ``manifest`` saves reading it again; a folder without one is scanned (:func:`shards.scan.scan_folder`). With
    ``workers`` > 1 that many processes decode the shards; the result is the same. Raises :class:`DataError` naming
    the file if a shard is missing, damaged, cut short or not what the manifest says.
    """
    refuse_url(str(folder))
    folder = Path(folder)
    manifest = manifest or manifest_of(folder)
    samples = sum(shard.samples for shard in manifest.split(split, folder).shards)
    images = np.empty((samples, *manifest.image_shape), np.uint8)
    labels = np.empty(samples, np.int64)
    keys: list[str] = []
    for part in map_shards(_as_it_is, folder, split, manifest, workers):
        place = slice(len(keys), len(keys) + len(part.keys))
        images[place], labels[place] = part.images, part.labels
        keys.extend(part.keys)
    return DecodedSplit(images=images, labels=labels, keys=keys)


def refuse_url(path: str) -> None:
    """Refuse ``pipe:``, ``s3:`` and the like; WebDataset hands ``pipe:`` to a shell. Raises :class:`DataError`."""
    if re.match(r"[A-Za-z][A-Za-z0-9+]+:", path):
        raise DataError(f"{path}: is an address with a scheme; it should be a folder of this machine", exit_status=2)


def read_shard(folder: Path, shard: Shard) -> bytes:
    """The bytes of a shard, checked against its size and sha256. Raises :class:`DataError` naming the file."""
    path = folder / shard.name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}), and the manifest names it") from error
    if len(content) != shard.bytes:
        raise DataError(f"{path}: has {len(content)} bytes, the manifest says {shard.bytes}; copy or pack it again")
    if hashlib.sha256(content).hexdigest() != shard.sha256:
        raise DataError(f"{path}: its sha256 is not the manifest's, so it is damaged; copy or pack it again")
    return content


def map_shards(
    function: Callable[[DecodedSplit], Result], folder: Path, split: str, manifest: Manifest, workers: int = 1
) -> Iterator[Result]:
    """``function`` of each shard's samples, in order; with ``workers`` > 1 called in that many processes.

    Raises :class:`DataError` as :func:`read_split` does.
    """
    shards = manifest.split(split, folder).shards
    task = partial(_decode_shard, function, folder, manifest)
    if workers <= 1 or len(shards) <= 1:
        yield from map(task, shards)
        return
    try:
        with worker_pool(min(workers, len(shards))) as pool:
            yield from pool.map(task, shards)
    except BrokenProcessPool as error:
        raise DataError("a process that read the shards was killed, perhaps for want of memory") from error


def _as_it_is(part: DecodedSplit) -> DecodedSplit:
    return part


def _decode_shard(function: Callable[[DecodedSplit], Result], folder: Path, manifest: Manifest, shard: Shard) -> Result:
    path = str(folder / shard.name)
    classes = len(manifest.class_names)
    content = Content(read_shard(folder, shard), path)
    if len(content.keys) != shard.samples:
        raise DataError(f"{path}: holds {len(content.keys)} samples, the manifest says {shard.samples}")
    labels = content.labels()
    if len(labels) and labels.max() >= classes:
        key = content.keys[int(labels.argmax())]
        raise DataError(f"{path}: {key} has label {labels.max()}; it should be from 0 to {classes - 1}")
    return function(DecodedSplit(images=content.pixels(manifest.image_shape), labels=labels, keys=content.keys))
