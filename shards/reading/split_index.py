"""Where every sample of a split is in its tars, kept in files that many processes map."""

import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from shards.manifest import Manifest, Shard
from shards.reading.reader import read_shards

_INDEX, _MEMBERS, _LABELS, _KEYS, _IMAGES = "index.json", "members.npy", "labels.npy", "keys.jsonl", "images.npy"


def write_index(folder: Path, split: str, manifest: Manifest, out: Path, *, workers: int, pixels: bool) -> None:
    """Read all shards of a split of ``folder`` once, every byte checked, and write its index into the folder ``out``.

    With ``pixels`` the decoded images are written too. ``workers`` threads read. Raises
    :class:`shards.errors.DataError` naming the file if the data can't be used, OSError if ``out`` can't be written.
    """
    shards = manifest.split(split, folder).shards
    samples = sum(shard.samples for shard in shards)
    images = _new_array(out / _IMAGES, (samples, *manifest.image_shape), np.uint8) if pixels else None
    members, labels = (
        _new_array(out / _MEMBERS, (samples, 2), np.int64),
        _new_array(out / _LABELS, (samples,), np.int64),
    )
    start = 0
    with open(out / _KEYS, "w", encoding="utf-8") as keys:
        for shard in read_shards(folder, split, manifest, workers, images):
            rows = slice(start, start + len(shard.keys))
            members[rows, 0], members[rows, 1], labels[rows] = shard.offsets, shard.sizes, shard.labels
            keys.write(json.dumps(shard.keys) + "\n")
            start = rows.stop
    described = {"image_shape": manifest.image_shape, "shards": [asdict(shard) for shard in shards]}
    (out / _INDEX).write_text(json.dumps(described))


def _new_array(path: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> np.ndarray:
    """A mapped ``.npy``. Its disk space is reserved: on a full disk, writing into a mapped file ends in a SIGBUS."""
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return np.asarray(array)


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitIndex:
    """The index of a split."""

    path: Path
    """The folder that :func:`write_index` wrote."""
    image_shape: tuple[int, int, int]
    """(channels, height, width)."""
    shards: tuple[Shard, ...]
    members: np.ndarray
    """Where each image's file begins in its tar and how many bytes it has: int64, (samples, 2), mapped."""

    @property
    def image_bytes(self) -> int:
        """Bytes of one decoded image."""
        return math.prod(self.image_shape)

    @staticmethod
    def read(path: Path) -> "SplitIndex":
        """Read what :func:`write_index` wrote into ``path``."""
        described: dict[str, Any] = json.loads((path / _INDEX).read_text())
        channels, height, width = described["image_shape"]
        return SplitIndex(
            path=path,
            image_shape=(channels, height, width),
            shards=tuple(Shard(**shard) for shard in described["shards"]),
            members=np.load(path / _MEMBERS, mmap_mode="r"),
        )

    def labels(self) -> np.ndarray:
        """int64, (samples,)."""
        labels: np.ndarray = np.load(self.path / _LABELS)
        return labels

    def images(self) -> np.ndarray:
        """uint8, (samples, channels, height, width), mapped; writing to it does not change the file."""
        images: np.ndarray = np.load(self.path / _IMAGES, mmap_mode="c")
        return images

    def keys(self) -> list[str]:
        """Each sample's key."""
        return [key for keys in self._keys_by_shard() for key in keys]

    def key(self, shard: int, number: int) -> str:
        """The key of sample ``number`` of a shard, counted from 0."""
        (keys,) = islice(self._keys_by_shard(), shard, shard + 1)
        return keys[number]

    def _keys_by_shard(self) -> Iterator[list[str]]:
        with open(self.path / _KEYS, encoding="utf-8") as lines:
            yield from map(json.loads, lines)
