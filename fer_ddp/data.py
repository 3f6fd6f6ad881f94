"""The training and evaluation data: a split decoded once a machine, mapped by every rank, kept on the device."""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from fer_ddp.atomic_write import write_json
from fer_ddp.errors import RunError
from fer_ddp.fields import FiniteFloat, PositiveFloat
from shards.manifest import Manifest
from shards.reader import read_split
from shards.scan import manifest_of


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """Which data, and in which order."""

    path: str
    """A folder that ``python -m shards pack`` wrote."""
    mode: Literal["auto", "resident"] = "auto"
    """resident: the whole split is decoded once and stays on the device."""
    order: Literal["shuffled", "class_balanced"] = "shuffled"
    """class_balanced shows every class equally often."""
    mean: tuple[FiniteFloat, ...] | None = None
    """Subtracted from pixels in [0, 1], one a channel; null takes the training split's."""
    std: tuple[PositiveFloat, ...] | None = None
    """Divides after that, one a channel; null takes the training split's."""


def normalization(
    config: DataConfig, manifest: Manifest, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """(mean, std), each (channels, 1, 1); one number in the job serves all channels."""
    channels = manifest.image_shape[0]
    pair = []
    for given, own in ((config.mean, manifest.mean), (config.std, manifest.std)):
        values = torch.tensor(given if given is not None else own, dtype=dtype, device=device)
        pair.append(values.expand(channels).reshape(channels, 1, 1))
    return pair[0], pair[1]


class FERDataset(Dataset[tuple[Any, int]]):
    """A split as a PyTorch data set: ``dataset[i]`` is (image, label).

    The image is uint8 (channels, height, width), or what ``transform`` makes of it. ``images`` (uint8, (samples,
    channels, height, width)) and ``labels`` (int64, (samples,)) hold the whole split, ``keys`` the samples' names,
    ``class_names`` what the labels mean, ``split`` and ``folder`` where they come from.

    The split is decoded once into a cache on this machine's disk and mapped from there, so many ranks and jobs share
    one copy. Raises shards' DataError for a folder that is no data set, RunError if the cache can't be written.
    """

    def __init__(self, folder: str | Path, split: str, transform: Callable[[Tensor], Any] | None = None) -> None:
        self.folder, self.split = Path(folder), split
        self.manifest = manifest_of(self.folder)
        self.class_names = self.manifest.class_names
        self.transform = transform
        cached = _decoded_once(self.folder, split, self.manifest)
        # Copy-on-write: the file stays as it is, whatever a user does to the tensor.
        self.images = torch.from_numpy(np.load(cached / "images.npy", mmap_mode="c"))
        self.labels = torch.from_numpy(np.load(cached / "labels.npy"))
        self.keys: list[str] = json.loads((cached / "keys.json").read_text())

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return (
            f"FERDataset({str(self.folder)!r}, {self.split!r}): {len(self):,} samples, {len(self.class_names)} classes"
        )

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = self.images[index]
        return (image if self.transform is None else self.transform(image)), int(self.labels[index])


CACHED_FILES = ("images.npy", "labels.npy", "keys.json")


def cache_folder() -> Path:
    """Where decoded splits are kept: ``FER_DDP_CACHE``, or a folder of this user on the local disk."""
    chosen = os.environ.get("FER_DDP_CACHE")
    return Path(chosen) if chosen else Path(tempfile.gettempdir()) / f"fer_ddp-{os.getuid()}"


def _decoded_once(folder: Path, split: str, manifest: Manifest) -> Path:
    """The folder of the decoded split, made by whoever comes first; the others wait for the lock."""
    manifest.split(split, folder)
    target = cache_folder() / manifest.digest[:32] / split
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(target.with_suffix(".lock")):
            if not _is_intact(target):
                _decode(folder, split, target, manifest)
    except OSError as error:
        raise RunError(
            f"{target}: the decoded split can't be kept there ({error.strerror or error}); "
            f"set FER_DDP_CACHE to a folder with room on a local disk"
        ) from None
    return target


def _decode(folder: Path, split: str, target: Path, manifest: Manifest) -> None:
    shutil.rmtree(target, ignore_errors=True)
    beside = target.with_suffix(".tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    # In this process: workers would run a user's unguarded script again, and wait for the lock that is held here.
    decoded = read_split(folder, split, workers=1, manifest=manifest)
    np.save(beside / "images.npy", decoded.images)
    np.save(beside / "labels.npy", decoded.labels)
    (beside / "keys.json").write_text(json.dumps(decoded.keys))
    write_json(beside / "sha256.json", {name: _sha256(beside / name) for name in CACHED_FILES})
    os.replace(beside, target)


def _is_intact(target: Path) -> bool:
    """Whether the cached files are those that were written; a machine that crashed may have lost some."""
    try:
        expected = json.loads((target / "sha256.json").read_text())
        return bool({name: _sha256(target / name) for name in CACHED_FILES} == expected)
    except (OSError, ValueError):
        return False


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
