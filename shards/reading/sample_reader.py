"""Reads single samples of a split from anywhere in its tars."""

import os
import weakref
from pathlib import Path

import numpy as np

from shards.errors import DataError
from shards.images import BadImage, decode_image, shape_in_words
from shards.png import checksums_hold, stored_pixels, stored_prefix, stored_size
from shards.reading.split_index import SplitIndex


class SampleReader:
    """The images of a split, read on request; several threads may read at once.

    Raises :class:`DataError` if a shard is missing or its size is not that of its index.
    """

    def __init__(self, folder: Path, index: SplitIndex) -> None:
        self.shape, self._index = index.image_shape, index
        self._paths = [folder / shard.name for shard in index.shards]
        self._starts = np.cumsum([0, *(shard.samples for shard in index.shards)])
        self._stored_size = stored_size(*self.shape) if stored_prefix(*self.shape) else -1
        for path, shard in zip(self._paths, index.shards, strict=True):
            size = path.stat().st_size if path.exists() else None
            if size != shard.bytes:
                found = "is missing" if size is None else f"has {size} bytes"
                raise DataError(f"{path}: {found}, the manifest says {shard.bytes} bytes; copy or pack it again")
        self._max_open = _max_open_files() // 2
        self._open: dict[int, int] = {}
        weakref.finalize(self, _close, self._open)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """The images of the samples ``indices``: int64 (n,) to uint8 (n, channels, height, width).

        Checksums of PNGs are checked. Raises :class:`DataError` naming the tar and the sample of an image that
        cannot be read or is damaged.
        """
        shards = np.searchsorted(self._starts, indices, side="right") - 1
        members = self._index.members[indices]
        wanted = list(zip(indices.tolist(), shards.tolist(), members.tolist(), strict=True))
        images = np.empty((len(indices), *self.shape), np.uint8)
        is_other = np.ones(len(indices), bool)
        candidates = np.flatnonzero(members[:, 1] == self._stored_size)
        if len(candidates):
            files = [self._file(*wanted[number]) for number in candidates.tolist()]
            whole = np.array([checksums_hold(file) for file in files])
            rows = np.frombuffer(b"".join(files), np.uint8).reshape(len(files), -1)
            images[candidates], found = stored_pixels(rows, self.shape)
            is_other[candidates] = ~(found & whole)
        for number in np.flatnonzero(is_other).tolist():
            images[number] = self._decode(*wanted[number])
        return images

    def _decode(self, index: int, shard: int, member: list[int]) -> np.ndarray:
        content = self._file(index, shard, member)
        if not checksums_hold(content):
            raise self._error(index, shard, "its image is damaged (a checksum is wrong); copy or pack it again")
        try:
            pixels = decode_image(content)[0]
        except BadImage as error:
            raise self._error(index, shard, f"its image {error}") from error
        if pixels.shape != self.shape:
            found, right = shape_in_words(pixels.shape), shape_in_words(self.shape)
            raise self._error(index, shard, f"its image is {found}; the data set's images are {right}")
        return pixels

    def _file(self, index: int, shard: int, member: list[int]) -> bytes:
        """The bytes of the image's file in the tar."""
        offset, size = member
        try:
            descriptor = self._open.get(shard)
            if descriptor is not None:
                content = os.pread(descriptor, size, offset)
            else:
                content = self._open_and_read(shard, size, offset)
        except OSError as error:
            raise self._error(index, shard, f"its image cannot be read ({error.strerror})") from error
        if len(content) < size:
            raise self._error(index, shard, "the tar ends inside its image; copy or pack it again")
        return content

    def _open_and_read(self, shard: int, size: int, offset: int) -> bytes:
        descriptor = os.open(self._paths[shard], os.O_RDONLY)
        # Of two threads that open the same shard at once, one keeps its descriptor for both, the other closes its own.
        if len(self._open) < self._max_open and self._open.setdefault(shard, descriptor) == descriptor:
            return os.pread(descriptor, size, offset)
        try:
            return os.pread(descriptor, size, offset)
        finally:
            os.close(descriptor)

    def _error(self, index: int, shard: int, problem: str) -> DataError:
        key = self._index.key(shard, index - int(self._starts[shard]))
        return DataError(f"{self._paths[shard]}: sample {key}: {problem}")


def _max_open_files() -> int:
    """How many files the system lets this process open, usually about a thousand."""
    try:
        import resource
    except ImportError:  # Windows
        return 512
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _close(open_files: dict[int, int]) -> None:
    for descriptor in open_files.values():
        os.close(descriptor)
