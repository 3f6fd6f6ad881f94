"""A split larger than memory: other processes read its images from the tars ahead of their use."""

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fer_ddp import distributed
from fer_ddp.data.cache import cached_split
from shards.manifest import Manifest
from shards.parallel import ordered_map, usable_cpus
from shards.reading.sample_reader import SampleReader
from shards.reading.sample_workers import SampleWorkers
from shards.reading.scan import load_or_scan_manifest
from shards.reading.split_index import SplitIndex

_PIECE_BYTES, _PIECE_SAMPLES = 2**22, 256
"""The most that a process reads at once."""


class StreamedSplit:
    """A split like `fer_ddp.data.dataset.FERDataset`, whose ``images`` are not in memory.

    ``labels`` (int64, (samples,)) are, and so is each image's offset in the tars: 24 bytes a sample. These are found
    once a machine, when every byte of the shards is checked, and cached beside the decoded splits. ``workers``
    processes read. Raises shards' DataError for a folder that is not a data set, RunError for a cache that can't be
    written.
    """

    def __init__(
        self, folder: str | Path, split: str, workers: int | None = None, *, manifest: Manifest | None = None
    ) -> None:
        self.manifest = manifest or load_or_scan_manifest(Path(folder))
        self.class_names = self.manifest.class_names
        self._index = cached_split(Path(folder), split, self.manifest, pixels=False)
        self.labels = torch.from_numpy(self._index.labels())
        self.images = StreamedImages(Path(folder), self._index, workers or _workers())

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def keys(self) -> list[str]:
        """The samples' names, read at first use."""
        return self._index.keys()


def _workers() -> int:
    """Processes for this rank: the ranks share the CPUs, and each needs one for itself."""
    return max(1, min(16, usable_cpus() // distributed.local_world_size() - 1))


class StreamedImages:
    """What a streamed split has instead of a tensor of images: uint8 (samples, channels, height, width)."""

    def __init__(self, folder: Path, index: SplitIndex, workers: int) -> None:
        self._folder, self._index, self._workers = folder, index, workers
        self._reader = SampleReader(folder, index)
        self.shape, self.ndim, self.dtype = (len(index.members), *index.image_shape), 4, np.dtype(np.uint8)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> np.ndarray:
        image: np.ndarray = self._reader.read(np.array([index]))[0]
        return image

    def numpy(self) -> Any:
        """Itself, since it can be indexed like an array, an image at a time."""
        return self

    def split(self, size: int) -> Iterator[Tensor]:
        """The images in order, ``size`` at a time, like a tensor's ``split``."""
        indices = (torch.arange(start, min(start + size, len(self))) for start in range(0, len(self), size))
        return (images for _, images in self.batches(indices, size))

    def batches(
        self, indices: Iterable[Tensor], size: int, pin_memory: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """(indices, images) of each batch of samples, in order; ``indices`` may be endless.

        indices: int64 (at most ``size``,) each. Images: uint8, in pinned memory if asked. At most a batch and twice
        as many pieces as there are processes are read ahead. Raises shards' DataError at the batch with an image that
        can't be read.
        """
        piece_size = max(1, min(_PIECE_SAMPLES, size, _PIECE_BYTES // self._index.image_bytes))

        def pieces() -> Iterator[tuple[Tensor, Tensor, int]]:
            for batch in indices:
                images = torch.empty((len(batch), *self.shape[1:]), dtype=torch.uint8, pin_memory=pin_memory)
                for start in range(0, len(batch), piece_size):
                    yield batch, images, start

        def read(piece: tuple[Tensor, Tensor, int]) -> tuple[Tensor, Tensor, int]:
            batch, images, start = piece
            rows = slice(start, start + piece_size)
            workers.read(batch[rows].numpy(), images[rows].numpy())
            return piece

        with SampleWorkers(self._folder, self._index, self._workers) as workers:
            ahead = 2 * self._workers + -(-size // piece_size)
            for batch, images, start in ordered_map(read, pieces(), threads=self._workers, ahead=ahead):
                if start + piece_size >= len(batch):
                    yield batch, images


class StreamedSteps:
    """``steps[step]`` is (indices, images) of a training step; the steps after it are read meanwhile."""

    def __init__(
        self, images: StreamedImages, indices_of: Callable[[int], Tensor], size: int, pin_memory: bool
    ) -> None:
        self._images, self._indices_of, self._size, self._pin_memory = images, indices_of, size, pin_memory
        self._step = -1
        self._batches: Iterator[tuple[Tensor, Tensor]] = iter(())

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        if step != self._step:
            follows, self._step = 0 <= self._step == step - 1, -1
            if not follows:
                indices = map(self._indices_of, count(step))
                self._batches = self._images.batches(indices, self._size, self._pin_memory)
            self._current = next(self._batches)
            self._step = step
        return self._current
