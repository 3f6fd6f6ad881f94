"""The training and evaluation data: a split decoded once a machine and held in memory, or streamed."""

import dataclasses
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import FiniteFloat, PositiveInt
from torch import Tensor
from torch.utils.data import Dataset

from fer_ddp import distributed
from fer_ddp.constraints import PositiveFloat, UserPath
from fer_ddp.data.cache import cached_split
from fer_ddp.data.stream import StreamedSplit
from fer_ddp.data.targets import Targets
from shards.manifest import Manifest
from shards.reading.scan import load_or_scan_manifest


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """The data set and the order of its samples."""

    path: UserPath
    """A folder that ``fer-ddp pack`` wrote."""
    mode: Literal["auto", "resident", "stream"] = "auto"
    """resident: the whole split is decoded once and stays on the device; stream: it is read ahead of its use, for
    splits larger than memory; auto: resident if it fits in a quarter of the device's memory. Results are the same.
    """
    workers: PositiveInt | None = None
    """Processes of each rank that read a streamed split; null uses the CPUs that the ranks leave free, at most 16."""
    order: Literal["shuffled", "class_balanced"] = "shuffled"
    """class_balanced shows every class equally often."""
    repeats: PositiveInt = 1
    """How often each image is in a batch, each time augmented differently (Hoffer et al. 2020, arXiv 1901.09335); an
    epoch shows as many images as without, so fewer different ones."""
    targets: Targets = "label"
    """What training learns of FER+'s votes (Barsoum et al. 2016): majority, the class with more than half of them;
    cross_entropy, their shares; probability, a class drawn by their shares each time; multi_target, any class with 30 %
    of them. label is the data set's label, and needs no votes."""
    mean: tuple[FiniteFloat, ...] | None = None
    """Subtracted from pixels in [0, 1], one a channel; null uses the training split's, which the run then records."""
    std: tuple[PositiveFloat, ...] | None = None
    """Divides after that, one a channel; null uses the training split's, which the run then records."""


def with_statistics(config: DataConfig, manifest: Manifest) -> DataConfig:
    """``config`` with the training split's mean and std where it has none."""
    return dataclasses.replace(config, mean=config.mean or manifest.mean, std=config.std or manifest.std)


def normalization(config: DataConfig, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The (mean, std) of ``config``, each (channels, 1, 1), or (1, 1, 1) where all channels share one number."""
    mean, std = (torch.tensor(values, dtype=dtype, device=device) for values in (config.mean, config.std))
    return mean.reshape(-1, 1, 1), std.reshape(-1, 1, 1)


class FERDataset(Dataset[tuple[Any, int]]):
    """A split as a PyTorch data set: ``dataset[i]`` is (image, label).

    The image is uint8 (channels, height, width), or what ``transform`` returns for it. ``images`` (uint8, (samples,
    channels, height, width)) and ``labels`` (int64, (samples,)) hold the whole split, ``keys`` the samples' names,
    ``class_names`` the labels', ``split`` and ``folder`` where they come from.

    The split is decoded once into a cache on this machine's disk and mapped from there, so many ranks and jobs share
    one copy. Raises shards' DataError for a folder that is not a data set, RunError if the cache can't be written.
    """

    def __init__(
        self,
        folder: str | Path,
        split: str,
        transform: Callable[[Tensor], Any] | None = None,
        *,
        manifest: Manifest | None = None,
    ) -> None:
        self.folder, self.split = Path(folder), split
        self.manifest = manifest or load_or_scan_manifest(self.folder)
        self.class_names = self.manifest.class_names
        self.transform = transform
        self._index = cached_split(self.folder, split, self.manifest, pixels=True)
        # Copy-on-write: changing the tensor does not change the file.
        self.images = torch.from_numpy(self._index.images())
        self.labels = torch.from_numpy(self._index.labels())

    @cached_property
    def keys(self) -> list[str]:
        """The samples' names, read at first use."""
        return self._index.keys()

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return (
            f"FERDataset({str(self.folder)!r}, {self.split!r}): {len(self):,} samples, {len(self.class_names)} classes"
        )

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = self.images[index]
        return (image if self.transform is None else self.transform(image)), int(self.labels[index])


def open_split(config: DataConfig, split: str, device: torch.device, manifest: Manifest) -> FERDataset | StreamedSplit:
    """Open a split in memory or streamed, as ``data.mode`` chooses. Raises as `FERDataset` does."""
    mode = config.mode
    if mode == "auto":
        size = math.prod(manifest.image_shape) * (manifest.splits[split].samples if split in manifest.splits else 0)
        mode = "resident" if size <= _memory(device) // 4 else "stream"
        if mode == "stream" and distributed.is_main():
            print(f"{config.path}: {split} is streamed: its {size / 2**30:,.1f} GiB are too much to keep in memory")
    if mode == "stream":
        return StreamedSplit(config.path, split, config.workers, manifest=manifest)
    return FERDataset(config.path, split, manifest=manifest)


def _memory(device: torch.device) -> int:
    """Bytes of memory of the device; on a CPU those this process may use, which a cluster's job limits."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    groups = Path("/proc/self/cgroup")
    for line in groups.read_text().splitlines() if groups.exists() else []:
        if line.startswith("0::"):
            group = Path("/sys/fs/cgroup", line.removeprefix("0::/"))
            files = [folder / "memory.max" for folder in (group, *group.parents)]
            texts = [file.read_text().strip() for file in files if file.exists()]
            limits += [int(text) for text in texts if text.isdigit()]
    return min(limits)
